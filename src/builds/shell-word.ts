/**
 * A text as one word of a POSIX shell. The text may contain anything but NUL.
 *
 *   make              as it is, where a shell sees nothing special in it
 *   'it'\''s'         between quotes
 *   "$(printf '\033')"   what a terminal or a reader would not show as it is: control characters, turns of direction
 *
 * So the word is what it looks like, and pasting it has no other effect. Line feeds and tabs stand only between quotes.
 */
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for.
const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+)/u;

export function word(text: string): string {
  if (text === "") return "''";
  return text
    .split(HIDDEN)
    .map((piece, i) => (piece === "" ? "" : i % 2 === 1 ? printed(piece) : PLAIN.test(piece) ? piece : quoted(piece)))
    .join("");
}

/** A text as one word, in which `$WORKDIR` and `$PATH` mean the shell's variables. */
export function wordOfPath(text: string): string {
  if (text === "") return "''";
  return text
    .split(/(\$WORKDIR|\$PATH)/)
    .map((piece, i) => (piece === "" ? "" : i % 2 === 1 ? `"${piece}"` : word(piece)))
    .join("");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function printed(text: string): string {
  const bytes = [...new TextEncoder().encode(text)];
  return `"$(printf '${bytes.map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("")}')"`;
}
