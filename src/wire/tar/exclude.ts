/** What a snapshot leaves out, in the words of a `.gitignore` whose folder is the root of the tree. */
import ignore from "ignore";
import { tarText } from "./tar.ts";

/**
 * Whether to leave out a name of an archive (one character per byte; a folder's ends in `/`) and, when it is a folder's, all that is
 * below. Case counts, as in git on the systems where files that differ in nothing else can exist. Throws RangeError for a name that
 * leads out of the tree.
 */
export function excluder(lines: readonly string[]): (name: string) => boolean {
  const rules = ignore({ ignorecase: false }).add(lines);
  return (name) => rules.ignores(tarText(name));
}
