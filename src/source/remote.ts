/** The branches that a remote repository says it has, and which of them are watched. Pure. */
import { isGlob, matches } from "../config/globs.ts";

export interface RemoteRefs {
  /** The commit of HEAD; undefined: HEAD has none yet. */
  readonly head: string | undefined;
  /** The branch that HEAD stands for; undefined when HEAD is detached, or the remote does not tell. */
  readonly headBranch: string | undefined;
  /** Branches -> their commits. */
  readonly branches: ReadonlyMap<string, string>;
}

export interface WatchedBranch {
  readonly name: string;
  /** The ref to ask the remote for. */
  readonly ref: string;
  readonly head: string;
}

export interface Choice {
  readonly watched: readonly WatchedBranch[];
  /** The branch that HEAD stands for, as the remote tells, or as can be guessed. */
  readonly headBranch: string | undefined;
  /** What the remote lacks of what the configuration asks for; null: nothing. */
  readonly problem: string | null;
}

const HEADS = "refs/heads/";

/** Reads the output of `git ls-remote --symref`. */
export function readRefs(output: string): RemoteRefs {
  const branches = new Map<string, string>();
  let head: string | undefined;
  let headBranch: string | undefined;
  for (const line of output.split("\n")) {
    const tab = line.indexOf("\t");
    const [value, ref] = [line.slice(0, tab), line.slice(tab + 1)];
    if (value.startsWith("ref: ")) {
      if (ref === "HEAD" && value.startsWith(HEADS, 5)) headBranch = value.slice(5 + HEADS.length);
    } else if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(value)) continue;
    else if (ref === "HEAD") head = value;
    // A name that is not UTF-8 could not be asked for.
    else if (ref.startsWith(HEADS) && !ref.includes("\ufffd")) branches.set(ref.slice(HEADS.length), value);
  }
  return { head, headBranch, branches };
}

/** The branches of `refs` that match `patterns`. */
export function chooseBranches(patterns: readonly string[], refs: RemoteRefs): Choice {
  if (refs.head === undefined && refs.branches.size === 0)
    return { watched: [], headBranch: undefined, problem: "it has no commits yet" };
  const problems: string[] = [];
  const unmatched: string[] = [];
  const named = patterns.filter((p) => p !== "HEAD");
  const wanted = new Set([...refs.branches.keys()].filter((name) => matches(named, name)));
  const watched: WatchedBranch[] = [];
  for (const pattern of patterns) {
    if (pattern.startsWith("!")) continue;
    if (pattern === "HEAD") {
      const name = defaultBranch(refs);
      if (name !== undefined && refs.branches.has(name)) wanted.add(name);
      else if (refs.head !== undefined) watched.push({ name: "HEAD", ref: "HEAD", head: refs.head });
      else problems.push(`its default branch ${JSON.stringify(name ?? "HEAD")} has no commits yet`);
    } else if (isGlob(pattern)) {
      if (!anyMatches(pattern, refs)) unmatched.push(`it has no branch that matches ${JSON.stringify(pattern)}`);
    } else if (!refs.branches.has(pattern)) problems.push(`it has no branch ${JSON.stringify(pattern)}`);
  }
  for (const name of wanted) watched.push({ name, ref: HEADS + name, head: refs.branches.get(name) ?? "" });
  // Release branches may come later: a glob without any is told only where nothing at all is watched.
  if (watched.length === 0) problems.push(...unmatched);
  const problem = problems.length === 0 ? null : `${problems.join(", ")}; ${listed(refs.branches)}`;
  return { watched, headBranch: defaultBranch(refs), problem };
}

function anyMatches(pattern: string, refs: RemoteRefs): boolean {
  return [...refs.branches.keys()].some((name) => matches([pattern], name));
}

/**
 * The branch of HEAD. Old servers and plain file servers do not tell it: then it is the likeliest branch with HEAD's
 * commit.
 */
function defaultBranch(refs: RemoteRefs): string | undefined {
  if (refs.headBranch !== undefined) return refs.headBranch;
  for (const name of ["main", "master"]) {
    if (refs.head !== undefined && refs.branches.get(name) === refs.head) return name;
  }
  return undefined;
}

const LISTED = 10;

function listed(branches: ReadonlyMap<string, string>): string {
  const names = [...branches.keys()].map((name) => JSON.stringify(name));
  if (names.length === 0) return "it has no branches";
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
  return `it has ${names.slice(0, LISTED).join(", ")}${more}`;
}
