/**
 * Groups of instances, so that one command goes to all of them: folders of files, in the same place as the original's.
 *
 *   CFG/groups/NAME.instances/ID        one empty file per member; making and removing a file are the only steps, so
 *                                       nothing is locked
 *   CFG/groups/NAME.instances/.server   the farm of the group (not the original's; a name with a dot is no member)
 *
 * An instance that the farm no longer has is no longer a member. Its file is removed if we asked the group's own farm:
 * with another -server all members would look dead. A free id may be given again, so a command that creates or destroys
 * an instance first takes its id out of all groups.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, FarmError } from "../farm/errors.ts";
import type { FarmClient } from "./farm-client.ts";

const SUFFIX = ".instances";
const DELETING = ".deleting";
const SERVER = ".server";

export interface Group {
  readonly name: string;
  /** The sorted ids of its members. */
  readonly instances: readonly string[];
}

export class Groups {
  readonly #folder: string;
  readonly #server: string;

  /** `config` is the folder CFG. `server` is the farm, as `HOST:PORT`. */
  constructor(config: string, server: string) {
    this.#folder = join(config, "groups");
    this.#server = server;
  }

  async names(): Promise<readonly string[]> {
    const files = await readdir(this.#folder).catch(ifThere<string[]>([]));
    return files
      .filter((file) => file.endsWith(SUFFIX) && isName(file.slice(0, -SUFFIX.length)))
      .map((file) => file.slice(0, -SUFFIX.length))
      .sort();
  }

  /** The group with its living members. Undefined: there is no such group. */
  async load(name: string, client: FarmClient): Promise<Group | undefined> {
    const path = this.#path(name);
    const files = await readdir(path).catch(ifThere(undefined));
    if (files === undefined) return undefined;
    const ids = files.filter((file) => isInstance(file)).sort();
    const lives = await Promise.all(ids.map((id) => client.alive(id)));
    if ((await this.#serverOf(name)) === this.#server)
      await Promise.all(ids.filter((_, at) => !lives[at]).map((id) => rm(join(path, id), { force: true })));
    return { name, instances: ids.filter((_, at) => lives[at]) };
  }

  async all(client: FarmClient): Promise<readonly Group[]> {
    const groups = await Promise.all((await this.names()).map((name) => this.load(name, client)));
    return groups.filter((group) => group !== undefined);
  }

  /** The ids of each group by its name, living or not. It asks no farm, and so extends no instance's time. */
  async members(): Promise<ReadonlyMap<string, readonly string[]>> {
    const all = (await this.names()).map(async (name): Promise<[string, readonly string[]]> => {
      const files = await readdir(this.#path(name)).catch(ifThere<string[]>([]));
      return [name, files.filter((file) => isInstance(file))];
    });
    return new Map(await Promise.all(all));
  }

  async exists(name: string): Promise<boolean> {
    return (await readdir(this.#path(name)).catch(ifThere(undefined))) !== undefined;
  }

  async create(name: string): Promise<Group> {
    const path = this.#path(name);
    await mkdir(this.#folder, { recursive: true });
    await mkdir(path).catch((error) => {
      if (errnoOf(error) !== "EEXIST") throw error;
      throw new FarmError("conflict", `Cannot create group ${JSON.stringify(name)}: there is one`);
    });
    await writeFile(join(path, SERVER), `${this.#server}\n`);
    return { name, instances: [] };
  }

  async add(name: string, ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => writeFile(join(this.#path(name), instanceFile(id)), "")));
  }

  async removeFrom(name: string, ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => rm(join(this.#path(name), instanceFile(id)), { force: true })));
  }

  /** Takes `ids` out of all groups of this farm. In groups of another farm the same ids mean other instances. */
  async forget(ids: readonly string[]): Promise<void> {
    for (const name of await this.names()) {
      const server = await this.#serverOf(name);
      if (server === undefined || server === this.#server) await this.removeFrom(name, ids);
    }
  }

  /** Removes a group. Its folder vanishes at once, even if removing its files fails. */
  async destroy(name: string): Promise<void> {
    const path = this.#path(name);
    await rm(path + DELETING, { recursive: true, force: true });
    await rename(path, path + DELETING);
    await rm(path + DELETING, { recursive: true, force: true });
  }

  /** The farm of a group. Undefined for a group that the original command made. */
  async #serverOf(name: string): Promise<string | undefined> {
    return (await readFile(join(this.#path(name), SERVER), "utf8").catch(ifThere(undefined)))?.trim();
  }

  #path(name: string): string {
    if (isName(name)) return join(this.#folder, name + SUFFIX);
    throw new FarmError(
      "bad-request",
      `Cannot use the group name ${JSON.stringify(name)}: want letters, digits, '.', '_' and '-', beginning with a letter or a digit`,
    );
  }
}

/** Whether `name` is a file name on every system, and no path to elsewhere. */
function isName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name);
}

/**
 * Whether `id` may be an id. Ids begin with a person's name, so they allow more characters; they are file names, too.
 */
function isInstance(id: string): boolean {
  return /^[^.\s/\\:*?"<>|\p{Cc}][^/\\:*?"<>|\p{Cc}]{0,254}$/u.test(id);
}

function instanceFile(id: string): string {
  if (isInstance(id)) return id;
  throw new FarmError("bad-request", `Cannot keep ${JSON.stringify(id)} in a group: it is no instance's id`);
}

function ifThere<T>(otherwise: T): (error: unknown) => T {
  return (error) => {
    if (errnoOf(error) === "ENOENT") return otherwise;
    throw error;
  };
}
