/**
 * What one run of the command has: its output, the farm, the groups, and the instances that it works on.
 *
 * The farm is dialled at the first call to it. The active group is -group, else GOMOTE_GROUP. A group of -group that
 * does not exist is an error; one that only the environment names is ignored.
 */
import { resolve } from "node:path";
import type { Environment } from "../dial/proxy.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { Connection } from "./connection.ts";
import { FarmClient } from "./farm-client.ts";
import { userFolder } from "./folders.ts";
import { type Group, Groups } from "./groups.ts";
import type { Output } from "./output.ts";
import { findServer, readToken, type Server, type ServerFlags } from "./server.ts";

/** The command was typed wrongly. Its usage is shown. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface Computer {
  readonly env: Environment;
  readonly platform: NodeJS.Platform;
  readonly cwd: string;
  readonly tempFolder: string;
  readonly clock: Clock;
  readonly output: Output;
  readonly stdin: AsyncIterable<Uint8Array>;
  /** Aborts at the first Ctrl-C. Its reason is a `Stopped`. */
  readonly signal: AbortSignal;
}

export interface GlobalFlags extends ServerFlags {
  readonly group: string;
}

export class Session implements AsyncDisposable {
  readonly computer: Computer;
  readonly output: Output;
  readonly #flags: GlobalFlags;
  #server: Promise<Server> | undefined;
  #client: Promise<FarmClient> | undefined;
  #group: Promise<Group | undefined> | undefined;

  constructor(computer: Computer, flags: GlobalFlags) {
    this.computer = computer;
    this.output = computer.output;
    this.#flags = flags;
  }

  get configFolder(): string {
    return userFolder("config", this.computer.env, this.computer.platform);
  }

  get cacheFolder(): string {
    return userFolder("cache", this.computer.env, this.computer.platform);
  }

  /** The name of the active group, which may not exist; "" for none. */
  get groupName(): string {
    return this.#flags.group || (this.computer.env.GOMOTE_GROUP ?? "");
  }

  /**
   * The words by which another `gomote` means the same farm: from any folder, without GOMOTE_SERVER, and after a login
   * elsewhere.
   */
  async serverWords(): Promise<readonly string[]> {
    const { name, ca, caFile } = await this.server();
    return [`-server=${name}`, ...(ca === undefined ? [] : [`-ca-file=${resolve(this.computer.cwd, caFile)}`])];
  }

  get #groupIsGiven(): boolean {
    return this.#flags.group !== "" && this.#flags.group !== this.computer.env.GOMOTE_GROUP;
  }

  server(): Promise<Server> {
    this.#server ??= findServer(this.configFolder, this.#flags, this.computer.env);
    return this.#server;
  }

  client(): Promise<FarmClient> {
    this.#client ??= this.server().then((server) => {
      const { env, platform, signal, clock } = this.computer;
      let token: Promise<string | undefined> | undefined;
      const findToken = () => {
        token ??= readToken(server, env, platform);
        return token;
      };
      return new FarmClient(new Connection(server, env, findToken, signal), clock);
    });
    return this.#client;
  }

  async groups(): Promise<Groups> {
    return new Groups(this.configFolder, (await this.server()).name);
  }

  /** Refuses a group of -group that does not exist, before anything is done. */
  async checkGroup(): Promise<void> {
    if (!this.#groupIsGiven) return;
    if (!(await (await this.groups()).exists(this.groupName)))
      throw new UsageError(`there is no group ${JSON.stringify(this.groupName)}; see \`gomote group list\``);
  }

  /** The active group with its living members; undefined when there is none. */
  group(): Promise<Group | undefined> {
    this.#group ??= this.#loadGroup();
    return this.#group;
  }

  async #loadGroup(): Promise<Group | undefined> {
    if (this.groupName === "") return undefined;
    try {
      const group = await (await this.groups()).load(this.groupName, await this.client());
      if (group && !this.#groupIsGiven) this.output.note(`using group ${JSON.stringify(group.name)} of GOMOTE_GROUP`);
      return group;
    } catch (error) {
      // A variable that was set for another command must not be in the way.
      if (!this.#groupIsGiven && error instanceof FarmError && error.code === "bad-request") return undefined;
      throw error;
    }
  }

  /** The instances for `[instance]`: the one that is named, else those of the group. */
  async instances(args: readonly string[]): Promise<readonly string[]> {
    const [id] = args;
    if (args.length > 1) throw new UsageError(`want one instance, got ${args.length} arguments`);
    if (id !== undefined) return [id];
    return (await this.#groupMembers()) ?? wantInstance();
  }

  /**
   * The instances for `[instance] WORDS...`: the first word if it is one, else those of the group, which get all words.
   */
  async instancesAndWords(args: readonly string[]): Promise<{ ids: readonly string[]; words: readonly string[] }> {
    const [first, ...rest] = args;
    if (first === undefined) throw new UsageError("want an argument");
    if (await (await this.client()).alive(first)) return { ids: [first], words: rest };
    const ids = await this.#groupMembers();
    if (ids) return { ids, words: args };
    throw new FarmError(
      "not-found",
      `Cannot find instance ${JSON.stringify(first)}, and there is no group; \`gomote list\` shows your instances`,
    );
  }

  async #groupMembers(): Promise<readonly string[] | undefined> {
    const group = await this.group();
    if (group?.instances.length === 0)
      throw new FarmError("not-found", `Cannot find an instance in group ${JSON.stringify(group.name)}: it is empty`);
    return group?.instances;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    await client?.connection[Symbol.asyncDispose]();
  }
}

function wantInstance(): never {
  throw new UsageError("want an instance, or a group by -group or GOMOTE_GROUP");
}

/** Does `work` for all at once. The first failure stops the others and is thrown. */
export async function forAll<T>(
  ids: readonly string[],
  signal: AbortSignal,
  work: (id: string, signal: AbortSignal) => Promise<T>,
): Promise<readonly T[]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const failed = (error: unknown): never => {
    stop.abort(error);
    throw error;
  };
  const done = await Promise.allSettled(ids.map((id) => work(id, both).catch(failed)));
  if (stop.signal.aborted) throw stop.signal.reason;
  return done.map((each) => (each as PromiseFulfilledResult<T>).value);
}
