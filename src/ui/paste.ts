/** Text that is pasted into a terminal, without the keys that some page may have hidden in it. */

/**
 * `text` without control characters other than tabs and line ends. So no key in it ends the brackets in which a shell
 * takes a paste.
 */
export function pasteText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is they that are taken out
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
}

/**
 * How many lines of a paste a shell would run at once. With 1, the paste waits for Enter, so the person is not asked.
 */
export function pasteLines(text: string): number {
  return text === "" ? 0 : text.split(/\r\n|\r|\n/).length;
}
