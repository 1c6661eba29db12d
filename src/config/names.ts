/**
 * Rules for names and texts, and what a name says. Each `...Fault` returns the rule that `value` breaks, or undefined.
 */

const LONGEST_NAME = 100;
const LONGEST_TEXT = 4000;

/** For repositories, host types and builders, whose names stand unchanged in addresses, file names and headers. */
export function nameFault(value: string): string | undefined {
  if (value === "") return "want a name, it is empty";
  if (value.length > LONGEST_NAME) return `want at most ${LONGEST_NAME} characters, it has ${value.length}`;
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(value)) return undefined;
  return "want letters, digits, '.', '_' and '-' only, beginning with a letter or a digit";
}

/** Characters that would reorder or hide what stands around them on a page or a terminal. */
const DECEIVING = /[\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;

/** For texts that people read: owners, notes, the names of steps. */
export function textFault(value: string, lines: "one line" | "many lines"): string | undefined {
  if (value.length > LONGEST_TEXT) return `want at most ${LONGEST_TEXT} characters, it has ${value.length}`;
  if (!value.isWellFormed()) return "want valid Unicode, it has half a surrogate pair";
  const controls = lines === "one line" ? /\p{Cc}/u : /(?![\n\t])\p{Cc}/u;
  if (controls.test(value)) return `want ${lines} without control characters`;
  if (DECEIVING.test(value)) return "want no invisible or direction-changing characters";
  return undefined;
}

export const LONGEST_TEST_NAME = 4000;
/** More names than any real list of tests has. */
export const MOST_TEST_NAMES = 200_000;

/** For the names of tests. Each is one line and one argument; otherwise they are free. */
export function testNameFault(value: string): string | undefined {
  if (value.trim() === "") return "want the name of a test, it is empty";
  if (value.length > LONGEST_TEST_NAME) return `want at most ${LONGEST_TEST_NAME} characters, it has ${value.length}`;
  if (/[\0\n\r]/.test(value)) return "want no NUL and no line break in the name of a test";
  if (value !== value.trim()) return "want no spaces around the name of a test";
  return value.isWellFormed() ? undefined : "want valid Unicode, it has half a surrogate pair";
}

/**
 * For the folder of a step, written with `/`: below the source tree, or after a `$WORKDIR` below the machine's work
 * folder.
 */
export function stepFolderFault(value: string): string | undefined {
  return folderFault(value.replace(/^\$WORKDIR(\/|$)/, ""));
}

/** For a folder below the source tree, written with `/`. */
export function folderFault(value: string): string | undefined {
  if (/[\\\p{Cc}]/u.test(value)) return "want a folder with '/' between its parts";
  if (value.startsWith("/") || /^[A-Za-z]:/.test(value)) return "want a folder relative to the source tree";
  if (value.split("/").includes("..")) return "want a folder inside the source tree, without '..'";
  return undefined;
}

export function envFault(entry: string): string | undefined {
  if (entry.includes("\0")) return "want no NUL in a variable";
  if (entry.indexOf("=") < 1) return "want KEY=value";
  if (/[\s\p{Cc}]/u.test(entry.slice(0, entry.indexOf("=")))) return "want a key without spaces";
  return undefined;
}

/** `goos` is before the first `-` of a builder's name, `goarch` between the first and the second. */
export function platformOf(builder: string): { readonly goos: string; readonly goarch: string } {
  const [goos = "", goarch = ""] = builder.split("-");
  return { goos, goarch };
}

/** Parts two and three of a host type's name; 32-bit arm means ARMv7. Undefined when the name has no such parts. */
export function hostArchOf(hostType: string): string | undefined {
  const [, goos, goarch] = hostType.split("-");
  if (!goos || !goarch) return undefined;
  return goarch === "arm" ? `${goos}-arm-7` : `${goos}-${goarch}`;
}

export function hostArchFault(value: string): string | undefined {
  return /^[a-z0-9]+-[a-z0-9]+(-[a-z0-9]+)?$/.test(value)
    ? undefined
    : 'want GOOS-GOARCH[-variant], such as "linux-arm-7"';
}
