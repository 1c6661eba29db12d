/**
 * The elements of a PATH in one flag, separated by commas. As in CSV, double quotes stand around an element that has a
 * comma or begins with a quote.
 */

export function splitPath(given: string): string[] {
  const elements = `,${given}`.matchAll(/,(?:"((?:[^"]|"")*)"(?=,|$)|([^,]*))/g);
  return [...elements].map(([, quoted, plain = ""]) => quoted?.replaceAll('""', '"') ?? plain);
}

export function joinPath(elements: readonly string[]): string {
  return elements.map((each) => (/^"|,/.test(each) ? `"${each.replaceAll('"', '""')}"` : each)).join(",");
}
