/**
 * Text that others wrote: names, commit messages, log lines. The renderer escapes it. This file handles what escaping
 * leaves: control characters, and the marks that change the direction of text, with which a name can look like another
 * (U+202A to 202E, 2066 to 2069). They are made visible, not removed: something odd in a name is worth seeing.
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for.
const CONTROL = /[\u0000-\u001f\u007f]/g;
const DIRECTION = /[\u0080-\u009f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]/g;

/**
 * `text` on one line with nothing invisible in it: U+001B becomes ␛, and a change of direction becomes the name of its
 * mark.
 */
export function visible(text: string): string {
  return text
    .replace(CONTROL, (c) =>
      c === "\t" || c === "\n" ? " " : c === "\u007f" ? "␡" : String.fromCharCode(0x2400 + c.charCodeAt(0)),
    )
    .replace(DIRECTION, codePoint);
}

/** Like `visible`, but keeps line feeds and tabs: for a whole commit message. */
export function visibleLines(text: string): string {
  return text
    .split(/\r?\n/)
    .map((line) => line.split("\t").map(visible).join("\t"))
    .join("\n");
}

function codePoint(c: string): string {
  return `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** The first line of a commit message. */
export function subject(message: string): string {
  return visible(message.split("\n", 1)[0] ?? "").trim() || "(no message)";
}

export function plural(count: number, one: string, many: string = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** The number with commas: 1234567 as 1,234,567. */
export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function bytes(value: number): string {
  if (value < 1000) return plural(value, "byte");
  const units = ["kB", "MB", "GB", "TB"];
  let scaled = value / 1000;
  let unit = 0;
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit++;
  }
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} ${units[unit]}`;
}

/**
 * `text`, escaped for HTML text and double-quoted attributes, for the few places that write HTML without the renderer.
 */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
