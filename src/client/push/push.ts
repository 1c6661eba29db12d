/**
 * `push`: makes a folder of an instance the same as a local repository (local-tree.ts), sending only what differs
 * (compare.ts).
 *
 * The local files are looked at once, whatever the number of instances. Of each instance only that folder is listed,
 * without what git ignores there. Then three things happen in this order: what is in the way is removed; what differs
 * is sent in one compressed stream; files that the repository no longer has are removed. These files of the instance
 * stay:
 *
 *   what git would ignore          products of builds and tools, whether or not this computer has such files, too
 *   what is on this computer       though it is not sent
 *   what a Go tree's build made    go-tree.ts
 *
 * A farm of ours takes the stream while it is made and unpacks it on the machine at once. To any other it is uploaded
 * first.
 */
import { basename } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import type { FarmClient } from "../farm-client.ts";
import { upload } from "../transfer.ts";
import { type Comparison, compare, type RemoteEntry, readListing, wholeFolders } from "./compare.ts";
import { Digests, type LocalFile } from "./digests.ts";
import { developmentVersion, isMadeHere, isMadeThere } from "./go-tree.ts";
import { ignoredFolders, ignoredOf, isHere, type LocalTree, listSubmodule, listTree } from "./local-tree.ts";
import { type MadeFile, packFiles } from "./pack-files.ts";
import { SentLinks } from "./sent-links.ts";

/** How many bytes of names a listing may skip: they travel in the head of a request. */
const SKIP_BYTES = 8 * 1024;
const SHOWN = 5;

export interface PushDeps {
  readonly client: FarmClient;
  readonly clock: Clock;
  readonly platform: NodeJS.Platform;
  readonly cacheFolder: string;
  /** Shows a line to the person. */
  readonly note: (line: string) => void;
}

export interface Target {
  readonly id: string;
  readonly isWindows: boolean;
}

export class Push {
  readonly #deps: PushDeps;
  readonly #tree: LocalTree;
  /** The local files. They are looked for while the instance is listed. */
  readonly #files: Promise<readonly LocalFile[]>;
  readonly #ignored: Promise<readonly string[]>;

  constructor(deps: PushDeps, tree: LocalTree) {
    this.#deps = deps;
    this.#tree = tree;
    this.#files = scan(deps, tree);
    this.#ignored = ignoredFolders(tree);
  }

  async to(target: Target, dryRun: boolean): Promise<void> {
    const { client, cacheFolder, note } = this.#deps;
    const { remote } = this.#tree;
    const sent = new SentLinks(cacheFolder, client.connection.server.name, target.id, remote);
    const [all, { there, exact }, links] = await Promise.all([this.#files, this.#list(target.id), sent.read()]);
    const files = exact ? all : all.filter(({ name }) => !name.includes("\n"));
    if (files.length < all.length)
      note(`${target.id}: what has a line feed in its name is not sent: its machine cannot list it`);
    const found = compare(files, there, { modes: this.#deps.platform !== "win32" && !target.isWindows, links });
    const going = await this.#removable(found.others);
    const made = await this.#made(files, there);
    this.#tell(target, found, going, made, dryRun);
    if (dryRun) return;
    const below = (name: string) => `${remote}/${name.replace(/\/$/, "")}`;
    if (found.inTheWay.length > 0) await client.remove(target.id, found.inTheWay.map(below));
    if (found.send.length + made.length > 0) await this.#send(target.id, found.send, made);
    if (going.length > 0) await client.remove(target.id, going.map(below));
    await sent.write(linksOf(files));
    if (found.send.length + made.length + going.length + found.inTheWay.length === 0)
      note(`${target.id}: ${remote}/ is as it is here already`);
  }

  /** The content of the instance's folder; nothing when the folder does not exist. */
  async #list(id: string): Promise<{ readonly there: ReadonlyMap<string, RemoteEntry>; readonly exact: boolean }> {
    const { client } = this.#deps;
    const level = { recursive: false, digest: false, skipFiles: [] };
    let directory = ".";
    for (const part of this.#tree.remote.split("/")) {
      const entries = readListing(await client.list(id, { directory, ...level }));
      if (entries.get(part)?.kind !== "folder") return { there: new Map(), exact: true };
      directory = directory === "." ? part : `${directory}/${part}`;
    }
    const top = readListing(await client.list(id, { directory, ...level }));
    const folders = [...top].filter(([, { kind }]) => kind === "folder").map(([name]) => name);
    const ignored = await ignoredOf(
      this.#tree,
      folders.map((name) => `${name}/`),
    );
    const skipped = folders.filter(
      (name) => name === ".git" || ignored.has(`${name}/`) || (this.#tree.isGo && isMadeThere(name)),
    );
    const inside = (await this.#ignored).map((name) => name.slice(0, -1)).filter((name) => !skipped.includes(name));
    const { lines, exact } = await client.listFolder(id, directory, asMuchAsFits([...skipped, ...inside]));
    return { there: readListing(lines), exact };
  }

  /** Those of `others`, files that only the instance has, that may be removed. */
  async #removable(others: readonly string[]): Promise<readonly string[]> {
    const ignored = await ignoredOf(this.#tree, others);
    const staying: string[] = [];
    const going: string[] = [];
    for (const name of others) {
      const stays = ignored.has(name) || (this.#tree.isGo && isMadeThere(name)) || (await isHere(this.#tree, name));
      (stays ? staying : going).push(name);
    }
    return wholeFolders(going, staying);
  }

  /** The file VERSION, for a Go tree that has none on either side. */
  async #made(files: readonly LocalFile[], there: ReadonlyMap<string, RemoteEntry>): Promise<readonly MadeFile[]> {
    const { isGo, root } = this.#tree;
    if (!isGo || there.has("VERSION") || files.some(({ name }) => name === "VERSION")) return [];
    return [{ name: "VERSION", text: await developmentVersion(root) }];
  }

  async #send(id: string, files: readonly LocalFile[], made: readonly MadeFile[]): Promise<void> {
    const { client, clock, platform } = this.#deps;
    const { root, remote: directory, isGo } = this.#tree;
    const pack = () =>
      packFiles({
        root,
        files,
        made,
        // Windows has no executable bit.
        isProgram: (name) => platform === "win32" && isGo && /\.(bash|rc)$/.test(name),
        now: Math.floor(clock.now() / 1000),
      });
    if (await client.push(id, directory, pack())) return;
    await client.writeTgz(id, await upload(client, `${basename(root)}.tar.gz`, pack()), directory);
  }

  #tell({ id }: Target, found: Comparison, going: readonly string[], made: readonly MadeFile[], dryRun: boolean): void {
    const { note } = this.#deps;
    const sent = found.send.length + made.length;
    const verb = dryRun ? "would send" : "sending";
    if (sent > 0) note(`${id}: ${verb} ${sent} ${sent === 1 ? "file" : "files"}, ${sizeText(found.bytes)}`);
    for (const { name } of found.send.slice(0, dryRun ? found.send.length : SHOWN)) note(`  ${name}`);
    const removed = [...found.inTheWay, ...going];
    if (removed.length > 0)
      note(
        `${id}: ${dryRun ? "would remove" : "removing"} ${removed.length} that ${removed.length === 1 ? "is" : "are"} not here`,
      );
    for (const name of removed.slice(0, dryRun ? removed.length : SHOWN)) note(`  ${name}`);
  }
}

function asMuchAsFits(skipped: readonly string[]): readonly string[] {
  let bytes = 0;
  return skipped.filter((name) => {
    bytes += encodeURIComponent(name).length + "&skip=".length;
    return bytes <= SKIP_BYTES;
  });
}

async function scan(deps: PushDeps, tree: LocalTree): Promise<readonly LocalFile[]> {
  const [digests, names] = await Promise.all([Digests.open(deps.cacheFolder, tree.root, deps.clock), listTree(tree)]);
  const { files, folders, odd } = await digests.scan(tree.root, names);
  const inside = await Promise.all(folders.map((folder) => listSubmodule(tree, folder)));
  const more = await digests.scan(tree.root, inside.flat());
  await digests.save();
  for (const name of [...odd, ...more.odd]) deps.note(`${JSON.stringify(name)} is not sent: it is no file that can be`);
  return [...files, ...more.files].filter(({ name }) => !tree.isGo || !isMadeHere(name));
}

function linksOf(files: readonly LocalFile[]): ReadonlyMap<string, string> {
  const links = new Map<string, string>();
  for (const { name, content } of files) if ("target" in content) links.set(name, content.target);
  return links;
}

/** A size for people: `3.4 MB`. */
export function sizeText(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  const [unit, divisor] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(bytes / Number(divisor)).toFixed(1)} ${unit}`;
}
