/**
 * What a push has to do: compares the local files with a listing of the instance's folder. Pure.
 *
 * A file is sent when the instance has no file of that name, or one with another digest, or (where machines have it)
 * one with another executable bit. A listing does not show the target of a link. So a link is sent unless this computer
 * sent it with the same target last time.
 *
 * Files that only the instance has are candidates for removal; the caller (push.ts) says which of them may go. They go
 * after everything has arrived, so that a push which fails leaves no hole. Only those that stand where something of
 * another kind or mode must be go before.
 */
import { parseLsLine } from "../../wire/buildlet-api/ls-line.ts";
import type { LocalFile } from "./digests.ts";

export interface RemoteEntry {
  readonly kind: "file" | "folder" | "link" | "other";
  readonly executable: boolean;
  /** The digest of a file. */
  readonly sha1: string;
}

export interface Comparison {
  readonly send: readonly LocalFile[];
  /** Names on the instance that are in the way of what is sent. */
  readonly inTheWay: readonly string[];
  /** Names that only the instance has; a folder's ends in `/`. */
  readonly others: readonly string[];
  readonly bytes: number;
}

/**
 * The entries by their names; a folder's has no slash. Anything that is not a line of a listing is left out, such as
 * the halves of a line whose name has an LF.
 */
export function readListing(lines: readonly string[]): ReadonlyMap<string, RemoteEntry> {
  const entries = new Map<string, RemoteEntry>();
  for (const line of lines) {
    const entry = parseLsLine(line);
    if (entry === undefined || entry.mode.length < MODE_LENGTH || (entry.mode[0] === "-" && !entry.file)) continue;
    const name = entry.name.endsWith("/") ? entry.name.slice(0, -1) : entry.name;
    const kind = entry.file ? "file" : KINDS[entry.mode[0] ?? ""];
    entries.set(name, { kind: kind ?? "other", executable: entry.mode.includes("x"), sha1: entry.file?.sha1 ?? "" });
  }
  return entries;
}

const MODE_LENGTH = "-rwxrwxrwx".length;
const KINDS: { readonly [letter: string]: RemoteEntry["kind"] } = { d: "folder", L: "link" };

export interface CompareOptions {
  /** Whether the instance has executable bits: Windows has none. */
  readonly modes: boolean;
  /** The targets of links by their names, as they were sent last. */
  readonly links: ReadonlyMap<string, string>;
}

export function compare(
  local: readonly LocalFile[],
  remote: ReadonlyMap<string, RemoteEntry>,
  { modes, links }: CompareOptions,
): Comparison {
  const send = local.filter((file) => {
    const there = remote.get(file.name);
    if ("target" in file.content) return there?.kind !== "link" || links.get(file.name) !== file.content.target;
    return there?.sha1 !== file.content.sha1 || (modes && there.executable !== file.executable);
  });
  const inTheWay: string[] = [];
  for (const { name, content, executable } of send) {
    const there = remote.get(name);
    const kind = "target" in content ? "link" : "file";
    // A file that is overwritten keeps its mode, and what is written to a link goes to its target.
    if (there && (there.kind !== kind || (modes && kind === "file" && there.executable !== executable)))
      inTheWay.push(name);
  }
  const names = new Set(local.map(({ name }) => name));
  const folders = new Set<string>();
  for (const { name } of local) {
    // Where a folder is known, its parents are, too.
    for (let at = name.lastIndexOf("/"); at > 0 && !folders.has(name.slice(0, at)); at = name.lastIndexOf("/", at - 1))
      folders.add(name.slice(0, at));
  }
  const others: string[] = [];
  for (const [name, { kind }] of remote) {
    if (names.has(name)) continue;
    if (!folders.has(name)) others.push(kind === "folder" ? `${name}/` : name);
    else if (kind !== "folder") inTheWay.push(name);
  }
  const gone = new Set(inTheWay);
  return {
    send,
    inTheWay: inTheWay.sort(),
    others: others.filter((name) => !foldersOf(name).some((folder) => gone.has(folder))).sort(),
    bytes: send.reduce((sum, { size }) => sum + size, 0),
  };
}

/** `removable`, sorted, without the content of folders that go as a whole. A folder in which something stays, stays. */
export function wholeFolders(removable: readonly string[], staying: readonly string[]): readonly string[] {
  const kept = new Set(staying.flatMap((name) => [name, ...foldersOf(name).map((folder) => `${folder}/`)]));
  const going = removable.filter((name) => !kept.has(name));
  const folders = new Set(going.filter((name) => name.endsWith("/")));
  return going.filter((name) => !foldersOf(name).some((folder) => folders.has(`${folder}/`))).sort();
}

/** The folders above a name: `a` and `a/b` for `a/b/c`, and for `a/b/c/`. */
function foldersOf(name: string): readonly string[] {
  const folders: string[] = [];
  for (let at = name.indexOf("/"); at >= 0 && at < name.length - 1; at = name.indexOf("/", at + 1))
    folders.push(name.slice(0, at));
  return folders;
}
