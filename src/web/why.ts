/** The lines of a failing step that are likely to say why it failed. */
import { parted, plain } from "../ui/ansi.ts";
import type { WhyLine } from "../ui/pages/build-data.ts";

/** How many lines are looked at, from the end of the log. */
export const LOOKED_AT = 400;
const LAST = 10;
const MARKED = 6;

const SAYS_WHY =
  /\b(error|errors|fatal|panic|panicked|assert(?:ion)?|exception|traceback|undefined reference|segmentation fault|expected|not found|denied|cannot|killed|timed? ?out)\b|^\s*(?:---\s*)?fail(?:ed|ure)?\b|\bfail(?:ed|ure)\b|✕|✗/i;
const SAYS_NOTHING = /\b(?:0|no) (?:errors?|failures?|failed)\b|\bwithout errors?\b/i;

/** The last lines, after up to six earlier ones that look like an error. `first` is the number of `lines[0]`. */
export function whyLines(lines: readonly string[], first: number): WhyLine[] {
  const all: WhyLine[] = [];
  for (const [i, line] of lines.entries()) {
    const { printed, marker } = parted(line);
    const text = plain(printed);
    if (marker !== undefined && text.trim() === "") continue; // the line is only a marker, which is output of no test
    all.push({
      line: first + i,
      text: text.length > 400 ? `${text.slice(0, 400)} …` : text,
      marked: SAYS_WHY.test(text.slice(0, 400)) && !SAYS_NOTHING.test(text.slice(0, 400)),
    });
  }
  while (all.length > 0 && all.at(-1)?.text.trim() === "") all.pop();
  const tail = all.slice(-LAST);
  const before = all.slice(0, -LAST).filter((line) => line.marked);
  return [...before.slice(-MARKED), ...tail];
}
