/** What is pasted into a terminal: text without keys in it that a page somewhere may have hidden there. */

/** Without control characters other than tabs and line ends, so that nothing leaves the brackets in which a shell takes a paste. */
export function pasteText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is they that are taken out
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
}

/** How many lines a shell would run at once; 1: what is pasted waits for Enter, and nobody needs to be asked. */
export function pasteLines(text: string): number {
  return text === "" ? 0 : text.split(/\r\n|\r|\n/).length;
}
