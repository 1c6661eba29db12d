/**
 * What a farm can be asked about gomote instances, each call with a limit and with errors as sentences (trouble.ts).
 *
 * A call that streams has no limit as a whole, since a command, or a first push over a thin line, takes hours: there
 * the connection is asked whether it lives. Where something has to move (a wait for a machine, a listing, files)
 * silence has a limit (silence.ts).
 */
import { type CallOptions, type Client, createClient } from "@connectrpc/connect";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import { linesOf } from "../wire/buildlet-api/ls-line.ts";
import { Gomote } from "../wire/gomote/gen/barnraiser_pb.ts";
import {
  CreateInstanceResponse_Status,
  type ExecuteCommandRequest,
  GomoteService,
  type Instance,
  type ListDirectoryRequest,
  type UploadFileResponse,
} from "../wire/gomote/gen/gomote_pb.ts";
import type { Connection } from "./connection.ts";
import { Silence } from "./silence.ts";
import { callTrouble, commandTrouble, NotOffered } from "./trouble.ts";

/** The limit of calls that the coordinator answers by itself. */
const QUICK_LIMIT_MS = 30_000;
/** The limit of calls for which a machine works on many files. */
const SLOW_LIMIT_MS = 30 * 60_000;
/** The limit of one transfer. The farm gives up earlier: when nothing moves for a minute, and after six hours. */
const TRANSFER_LIMIT_MS = 6.5 * 60 * 60_000;
/** The longest silence while we wait for a machine. The farm says every five seconds that we still wait. */
const WAITING_SILENCE: Ms = minutes(2);
/** The longest silence of a machine. It may have to read gigabytes before it can send the next line. */
export const MOVING_SILENCE: Ms = minutes(5);

export type Command = Omit<ExecuteCommandRequest, "$typeName" | "$unknown" | "gomoteId">;
export type Listing = Omit<ListDirectoryRequest, "$typeName" | "$unknown" | "gomoteId">;

export interface FolderListing {
  readonly lines: readonly string[];
  /** Whether a name with an LF stays in one line. */
  readonly exact: boolean;
}

export class FarmClient {
  readonly connection: Connection;
  readonly own: Client<typeof Gomote>;
  readonly #service: Client<typeof GomoteService>;
  readonly #quick: CallOptions;
  readonly #slow: CallOptions;
  readonly #transfer: CallOptions;
  readonly #clock: Clock;

  constructor(connection: Connection, clock: Clock) {
    const { signal } = connection;
    this.connection = connection;
    this.#clock = clock;
    this.#quick = { timeoutMs: QUICK_LIMIT_MS, signal };
    this.#slow = { timeoutMs: SLOW_LIMIT_MS, signal };
    this.#transfer = { timeoutMs: TRANSFER_LIMIT_MS, signal };
    this.#service = createClient(GomoteService, connection.transport);
    this.own = createClient(Gomote, connection.transport);
  }

  /** Throws unless the farm knows the caller. */
  async authenticate(): Promise<void> {
    await this.#call("log in", () => this.#service.authenticate({}, this.#quick));
  }

  /** Whether the caller has an instance with this id. The call also extends its time. */
  async alive(id: string): Promise<boolean> {
    try {
      await this.#call(`ask for ${id}`, () => this.#service.instanceAlive({ gomoteId: id }, this.#quick));
      return true;
    } catch (error) {
      if (error instanceof FarmError && error.code === "not-found") return false;
      throw error;
    }
  }

  async instances(): Promise<readonly Instance[]> {
    return (await this.#call("list instances", () => this.#service.listInstances({}, this.#quick))).instances;
  }

  async builderTypes(): Promise<readonly string[]> {
    return (await this.#call("list builder types", () => this.#service.listSwarmingBuilders({}, this.#quick))).builders;
  }

  /** Waits for a machine. `waiting` gets the number of callers ahead, each time the farm sends it. */
  async create(
    builderType: string,
    experiments: readonly string[],
    waiting: (ahead: number) => void,
    signal: AbortSignal,
  ): Promise<Instance> {
    const what = `create an instance of ${builderType}`;
    const request = { builderType, experimentOption: [...experiments] };
    const made = await this.#moving(what, WAITING_SILENCE, async (options, moved) => {
      const both = AbortSignal.any([signal, options.signal]);
      let instance: Instance | undefined;
      for await (const message of this.#service.createInstance(request, { signal: both })) {
        moved();
        if (message.status === CreateInstanceResponse_Status.COMPLETE) instance = message.instance;
        else waiting(Number(message.waitersAhead));
      }
      return instance;
    });
    if (made) return made;
    throw new FarmError("internal", `Cannot ${what}: the farm said that it was done, and named no instance`);
  }

  async destroy(id: string): Promise<void> {
    await this.#call(`destroy ${id}`, () => this.#service.destroyInstance({ gomoteId: id }, this.#slow));
  }

  /** The output of a command as it comes. Ends when the command succeeded; otherwise throws CommandFailed. */
  async *run(id: string, command: Command, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      for await (const { output } of this.#service.executeCommand({ gomoteId: id, ...command }, { signal }))
        yield output;
    } catch (error) {
      const what = `run ${command.command} on ${id}`;
      const lost = `; the farm ends the command when it notices: see \`gomote ps ${id}\`, and run it again`;
      throw commandTrouble(error) ?? callTrouble(error, what, this.connection.server.name, lost);
    }
  }

  /** The lines of a listing (wire/buildlet-api/ls-line.ts). */
  async list(id: string, listing: Listing): Promise<readonly string[]> {
    const entries: string[] = [];
    await this.#moving(`list ${listing.directory} of ${id}`, MOVING_SILENCE, async (options, moved) => {
      for await (const part of this.#service.listDirectoryStreaming({ gomoteId: id, ...listing }, options)) {
        moved();
        for (const entry of part.entries) entries.push(entry);
      }
    });
    return entries;
  }

  /** Lists all that is below a folder, with digests. */
  async listFolder(id: string, directory: string, skip: readonly string[]): Promise<FolderListing> {
    const chunks: Uint8Array[] = [];
    const listing = this.#moving(`list ${directory} of ${id}`, MOVING_SILENCE, async (options, moved) => {
      for await (const { lines } of this.own.listFolder({ gomoteId: id, directory, skip: [...skip] }, options)) {
        moved();
        chunks.push(lines);
      }
      return true;
    });
    const listed = await offered(listing);
    const text = Buffer.concat(chunks).toString();
    if (listed) return { lines: linesOf(text), exact: text.includes("\0") || text === "" };
    return {
      lines: await this.list(id, { directory, recursive: true, digest: true, skipFiles: [...skip] }),
      exact: false,
    };
  }

  async remove(id: string, paths: readonly string[]): Promise<void> {
    await this.#call(`remove files of ${id}`, () =>
      this.#service.removeFiles({ gomoteId: id, paths: [...paths] }, this.#slow),
    );
  }

  /** A certificate for an OpenSSH public key, both as lines of authorized_keys. */
  async signSshKey(id: string, publicKey: Uint8Array): Promise<Uint8Array> {
    const signed = await this.#call(`sign a key for ${id}`, () =>
      this.#service.signSSHKey({ gomoteId: id, publicSshKey: publicKey }, this.#quick),
    );
    return signed.signedPublicSshKey;
  }

  /** A place to which a file can be posted. `url` and `objectName` name the file for the two methods below. */
  async uploadPlace(): Promise<UploadFileResponse> {
    return await this.#call("upload", () => this.#service.uploadFile({}, this.#quick));
  }

  async writeFile(id: string, url: string, filename: string, mode: number): Promise<void> {
    const request = { gomoteId: id, url, filename, mode };
    await this.#call(`write ${filename} on ${id}`, () => this.#service.writeFileFromURL(request, this.#transfer));
  }

  async writeTgz(id: string, url: string, directory: string): Promise<void> {
    const request = { gomoteId: id, url, directory };
    await this.#call(`unpack on ${id}`, () => this.#service.writeTGZFromURL(request, this.#transfer));
  }

  /** Unpacks a tar.gz, while it is made, below `directory`. Undefined: the farm does not offer this. */
  async push(id: string, directory: string, tgz: AsyncIterable<Uint8Array>): Promise<true | undefined> {
    const pushing = this.#moving(`push to ${id}`, MOVING_SILENCE, async (options, moved) => {
      await this.own.pushFiles(pushMessages(id, directory, tgz, moved), options);
      return true as const;
    });
    return await offered(pushing);
  }

  /** The URL from which a folder of the instance can be fetched as tar.gz. */
  async readTgz(id: string, directory: string): Promise<string> {
    const request = { gomoteId: id, directory };
    return (await this.#call(`read ${directory} of ${id}`, () => this.#service.readTGZToURL(request, this.#slow))).url;
  }

  /** The answer of a method that only our own farm has. Undefined: the farm does not offer it. */
  async ifOffered<T>(
    what: string,
    call: (own: Client<typeof Gomote>, options: CallOptions) => Promise<T>,
  ): Promise<T | undefined> {
    return await offered(this.#call(what, () => call(this.own, this.#slow)));
  }

  async #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      throw callTrouble(error, what, this.connection.server.name);
    }
  }

  /** A call without a limit, as long as it calls `moved` again and again. */
  async #moving<T>(
    what: string,
    limit: Ms,
    call: (options: { readonly signal: AbortSignal }, moved: () => void) => Promise<T>,
  ): Promise<T> {
    using silence = new Silence(this.#clock, limit, `Cannot ${what}: ${this.connection.server.name}`);
    const signal = AbortSignal.any([this.connection.signal, silence.signal]);
    try {
      return await call({ signal }, () => silence.moved());
    } catch (error) {
      silence.signal.throwIfAborted();
      throw callTrouble(error, what, this.connection.server.name);
    }
  }
}

/** The answer of a method that a farm may lack. Undefined: the farm lacks it. */
async function offered<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof NotOffered) return undefined;
    throw error;
  }
}

async function* pushMessages(
  gomoteId: string,
  directory: string,
  chunks: AsyncIterable<Uint8Array>,
  moved: () => void,
) {
  yield { gomoteId, directory };
  for await (const tgz of chunks) {
    moved();
    yield { tgz };
  }
}
