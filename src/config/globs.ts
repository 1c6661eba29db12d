/**
 * Names and globs, for branches and for repositories. `*` is anything but `/`, `**` anything, `?` one character but
 * `/`. A list matches what one of its patterns matches and none of its `!` patterns.
 */

const LONGEST = 255;

export function matches(patterns: readonly string[], name: string): boolean {
  let wanted = false;
  for (const pattern of patterns) {
    if (pattern.startsWith("!")) {
      if (expression(pattern.slice(1)).test(name)) return false;
    } else wanted ||= expression(pattern).test(name);
  }
  return wanted;
}

export function isGlob(pattern: string): boolean {
  return /[*?!]/.test(pattern);
}

/** What is wrong with `pattern`, as a rule for people. Undefined: nothing. */
export function globFault(pattern: string): string | undefined {
  const body = pattern.startsWith("!") ? pattern.slice(1) : pattern;
  if (body === "") return "want a name or a glob, it is empty";
  if (body.length > LONGEST) return `want at most ${LONGEST} characters`;
  if (body.startsWith("refs/")) return "want a name without refs/heads/";
  if (body.includes("***")) return "want *, ** or ?, not ***";
  // What git refuses in the name of a branch never matches one. It is nearly always another glob dialect.
  const never = /[\s~^:\\[\]{}\p{Cc}]|\.\.|@\{|^[-/]|\/$|\/\//u.exec(body)?.[0];
  if (never !== undefined)
    return `no branch can be named so: ${JSON.stringify(never)} is not allowed; globs know *, ** and ?`;
  return undefined;
}

function expression(pattern: string): RegExp {
  const source = pattern.replace(/\*\*|[*?]|[^\w/]/g, (part) => {
    if (part === "**") return ".*";
    if (part === "*") return "[^/]*";
    if (part === "?") return "[^/]";
    return `\\${part}`;
  });
  return new RegExp(`^${source}$`, "s");
}
