/**
 * A farm for tests of the command: the real protocol over real TLS, with folders for machines, processes of this
 * computer for commands, and the machine's own code for listing and unpacking. It answers as the service does;
 * e2e/gomote-command.test.ts asks the real service.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError, type ConnectRouter, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { KnownDigests } from "../../agent/api/known-digests.ts";
import { list } from "../../agent/api/list.ts";
import { pack } from "../../agent/api/pack.ts";
import { unpack } from "../../agent/api/unpack.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { epochMs } from "../../farm/ids.ts";
import { certificate } from "../../web/certificate.ts";
import { processState } from "../../wire/buildlet-api/process-state.ts";
import { commandExit } from "../../wire/gomote/command-exit.ts";
import { CommandExitSchema, Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import { CreateInstanceResponse_Status, GomoteService, type Instance } from "../../wire/gomote/gen/gomote_pb.ts";
import { batchesOf, entriesOf, instanceName } from "../../wire/gomote/gomote.ts";
import { TAR_LIMITS } from "../../wire/tar/tar-reader.ts";

export const TOKEN = "brt_test";

export interface FakeFarmOptions {
  /** Whether to offer barnraiser.Gomote, too. */
  readonly own?: boolean;
  /** How each HoldBuild ends, in order; after these, by a stop of the coordinator. Undefined: it is not offered. */
  readonly holds?: readonly ("up" | "cut" | "stopping")[];
  /** How long a HoldBuild lasts, before it ends. */
  readonly holding?: () => Promise<void>;
  /** The number of callers ahead, one message each, before an instance is there. */
  readonly ahead?: readonly number[];
}

export class FakeFarm implements AsyncDisposable {
  readonly folder: string;
  readonly caFile: string;
  /** The calls in their order, by method and subject, without InstanceAlive. */
  readonly calls: string[] = [];
  readonly instances = new Map<string, Instance>();
  /** The last command, with its environment. */
  lastCommand: unknown;
  #heldUp: (() => void) | undefined;
  /** Instance → how every command on it ends, without being run. */
  readonly ends = new Map<string, ConnectError>();
  /** The number of connections so far. */
  connections = 0;
  /** Resolves when a command was killed since its caller left. */
  readonly killed: Promise<void>;
  readonly #said: () => void;
  readonly #server: ReturnType<typeof createSecureServer>;
  readonly #sockets = new Set<Socket>();
  readonly #digests = new KnownDigests(systemClock);
  readonly #options: FakeFarmOptions;
  /** The answers of /token, in order. */
  readonly tokenAnswers: (readonly [number, object])[] = [];

  private constructor(folder: string, caFile: string, tls: { cert: string; key: string }, options: FakeFarmOptions) {
    this.folder = folder;
    this.caFile = caFile;
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.killed = promise;
    this.#said = resolve;
    const authenticate: Interceptor = (next) => async (request) => {
      if (request.header.get("authorization") !== `Bearer ${TOKEN}`)
        throw new ConnectError("no authentication in request", Code.Unauthenticated);
      return await next(request);
    };
    const rpc = connectNodeAdapter({
      routes: (router) => this.#routes(router),
      interceptors: [authenticate],
      grpcWeb: false,
    });
    this.#server = createSecureServer({ ...tls, allowHTTP1: true }, (request, response) => {
      if (request.headers["content-type"]?.startsWith("application/grpc")) rpc(request, response);
      else this.#http(request, response).catch(() => response.stream?.destroy());
    });
    this.#server.on("secureConnection", (socket: TLSSocket) => {
      if (socket.alpnProtocol === "h2") this.connections++;
      socket.on("error", () => {});
    });
    this.#server.on("connection", (socket: Socket) => void this.#sockets.add(socket.on("error", () => {})));
  }

  static async start(options: FakeFarmOptions = {}): Promise<FakeFarm> {
    const folder = await mkdtemp(join(tmpdir(), "barnraiser-client-"));
    const made = await certificate({ folder: join(folder, "tls"), names: ["localhost"], now: epochMs(Date.now()) });
    const farm = new FakeFarm(folder, made.caFile, made, options);
    await new Promise<void>((listening) => farm.#server.listen(0, "127.0.0.1", listening));
    return farm;
  }

  get name(): string {
    return `localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Makes an instance without being asked. */
  async instance(type = "linux-amd64"): Promise<string> {
    const gomoteId = instanceName("alice", type, new Set(this.instances.keys()));
    const expires = BigInt(Math.floor(Date.now() / 1000) + 1800);
    this.instances.set(gomoteId, {
      $typeName: "protos.Instance", gomoteId, builderType: type, hostType: "host-linux", expires, workingDir: this.work(gomoteId),
    }); // biome-ignore format: one row
    await mkdir(this.work(gomoteId), { recursive: true });
    return gomoteId;
  }

  /** The work dir of an instance. */
  work(id: string): string {
    return join(this.folder, "work", id);
  }

  /** From now on listings, uploads and pushes are never answered; resolves when one was asked for. */
  holdsUp(): Promise<void> {
    return new Promise((asked) => {
      this.#heldUp = asked;
    });
  }

  /** Cuts all connections: closes them, or resets them as the system does for a program that died. */
  cut(how: "closed" | "reset" = "closed"): void {
    for (const socket of this.#sockets) how === "reset" ? socket.resetAndDestroy() : socket.destroy();
    this.#sockets.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
    await rm(this.folder, { recursive: true, force: true });
  }

  #of(id: string): string {
    if (!this.instances.has(id)) throw new ConnectError("instance does not exist", Code.NotFound);
    return this.work(id);
  }

  #routes(router: ConnectRouter): void {
    const note = (line: string) => void this.calls.push(line);
    const { ahead = [] } = this.#options;
    const listing = async (
      id: string,
      directory: string,
      recursive: boolean,
      digest: boolean,
      skip: readonly string[],
    ) => {
      if (this.#heldUp) await new Promise<never>(this.#heldUp);
      const lines: string[] = [];
      const digests = digest ? this.#digests : undefined;
      const found = list(join(this.#of(id), directory), { recursive, digests, skip: new Set(skip) });
      for await (const line of found) lines.push(...entriesOf(line.toString()));
      return lines;
    };
    const untar = async (id: string, body: Readable, directory: string) => {
      const dir = join(this.#of(id), directory);
      await mkdir(dir, { recursive: true });
      await unpack(body, dir, {
        platform: process.platform,
        limits: TAR_LIMITS,
        nowSeconds: () => Date.now() / 1000,
        keepLinks: true,
      });
    };
    router.service(GomoteService, {
      authenticate: () => ({}),
      createInstance: async function* (this: FakeFarm, { builderType }: { builderType: string }) {
        note(`create ${builderType}`);
        if (builderType !== "linux-amd64")
          throw new ConnectError(`unknown builder type "${builderType}"`, Code.InvalidArgument);
        for (const waitersAhead of ahead)
          yield { status: CreateInstanceResponse_Status.WAITING, waitersAhead: BigInt(waitersAhead) };
        const instance = this.instances.get(await this.instance(builderType));
        yield { status: CreateInstanceResponse_Status.COMPLETE, ...(instance && { instance }) };
      }.bind(this),
      destroyInstance: ({ gomoteId }) => {
        this.#of(gomoteId);
        note(`destroy ${gomoteId}`);
        this.instances.delete(gomoteId);
        return {};
      },
      executeCommand: (request, { signal }) => {
        this.lastCommand = request;
        note(`run ${request.command}`);
        const end = this.ends.get(request.gomoteId);
        if (end) throw end;
        return this.#execute(this.#of(request.gomoteId), request.command, request.args, signal);
      },
      instanceAlive: ({ gomoteId }) => {
        this.#of(gomoteId);
        return {};
      },
      listDirectoryStreaming: async function* ({ gomoteId, directory, recursive, digest, skipFiles }: ListingRequest) {
        note(`list ${directory}${recursive ? " recursive" : ""} skip=${skipFiles.join(",")}`);
        for (const entries of batchesOf(await listing(gomoteId, directory, recursive, digest, skipFiles)))
          yield { entries };
      },
      listInstances: () => ({ instances: [...this.instances.values()] }),
      listSwarmingBuilders: () => ({ builders: ["linux-amd64", "linux-arm64"] }),
      readTGZToURL: async ({ gomoteId, directory }) => {
        note(`read ${directory}`);
        const name = randomBytes(8).toString("hex");
        await writeFile(join(this.folder, name), Readable.from(pack(join(this.#of(gomoteId), directory))));
        return { url: `https://${this.name}/object/${name}` };
      },
      removeFiles: async ({ gomoteId, paths }) => {
        note(`remove ${paths.join(" ")}`);
        for (const path of paths) await rm(join(this.#of(gomoteId), path), { recursive: true, force: true });
        return {};
      },
      signSSHKey: ({ publicSshKey }) => ({ signedPublicSshKey: Buffer.concat([Buffer.from("signed "), publicSshKey]) }),
      uploadFile: () => {
        note("upload");
        const key = randomBytes(8).toString("hex");
        return { url: `https://${this.name}/upload/`, fields: { key, policy: "p" }, objectName: key };
      },
      writeFileFromURL: async ({ gomoteId, url, filename, mode }) => {
        note(`write ${filename} ${mode.toString(8)}`);
        await writeFile(
          join(this.#of(gomoteId), filename),
          await readFile(join(this.folder, url.slice(url.lastIndexOf("/") + 1))),
          { mode },
        );
        return {};
      },
      writeTGZFromURL: async ({ gomoteId, url, directory }) => {
        if (!url.startsWith(`https://${this.name}/`)) {
          note(`unpack ${url}`); // nothing is fetched from elsewhere here
          return {};
        }
        note(`unpack ${directory}`);
        await untar(gomoteId, createReadStream(join(this.folder, url.slice(url.lastIndexOf("/") + 1))), directory);
        return {};
      },
    });
    if (!this.#options.own) return;
    router.service(Gomote, {
      describeInstance: () => ({ sshAddress: ":2022", sshHostKeys: ["ssh-ed25519 AAAA"] }),
      getBuildLayout: ({ build }) => {
        if (build !== 7n) throw new ConnectError(`no build ${build}`, Code.NotFound);
        const step = { directory: "src", environment: ["B=two words"], path: ["$WORKDIR/bin", "$PATH"] };
        return {
          builderType: "linux-amd64",
          environment: ["A=1"],
          steps: [
            { name: "make", argv: ["./make.bash"], ...step },
            { name: "test", argv: ["go", "test", "./..."], failed: true, ...step },
          ],
        };
      },
      ...(this.#options.holds && { holdBuild: this.#hold.bind(this) }),
      layOutBuild: async function* ({ gomoteId, build }: { gomoteId: string; build: bigint }) {
        note(`lay out ${build} on ${gomoteId}`);
        yield { progress: "writing the sources" };
      },
      listFolder: async function* (this: FakeFarm, { gomoteId, directory, skip }: ListFolderRequest) {
        note(`list ${directory} recursive skip=${skip.join(",")}`);
        if (this.#heldUp) await new Promise<never>(this.#heldUp);
        const options = { recursive: true, digests: this.#digests, skip: new Set(skip), end: "\0" } as const;
        for await (const lines of list(join(this.#of(gomoteId), directory), options))
          yield { lines: new Uint8Array(lines) };
      }.bind(this),
      pushFiles: async (messages) => {
        const parts = messages[Symbol.asyncIterator]();
        const first = await parts.next();
        if (first.done) throw new ConnectError("no message", Code.InvalidArgument);
        const { gomoteId, directory } = first.value;
        note(`push ${directory}`);
        if (this.#heldUp) await new Promise<never>(this.#heldUp);
        const body = async function* () {
          for (let part = await parts.next(); !part.done; part = await parts.next()) yield part.value.tgz;
        };
        await untar(gomoteId, Readable.from(body()), directory);
        return {};
      },
    });
  }

  async *#hold({ build }: { build: bigint }) {
    const end = this.#options.holds?.[this.calls.length];
    this.calls.push(`hold ${build}`);
    yield { progress: "its machine becomes yours when it fails" };
    await this.#options.holding?.();
    if (end === "cut") this.cut("reset");
    else if (end === "up") yield { gomoteId: await this.instance() };
    else throw new ConnectError("the coordinator is stopping", Code.Unavailable);
  }

  async *#execute(dir: string, command: string, args: readonly string[], signal: AbortSignal) {
    const child = spawn(command, args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
    const ended = new Promise<string>((done) => {
      child.once("error", (error) => done(error.message));
      child.once("close", (code, by) => done(processState(code, by)));
    });
    const leave = () => {
      child.kill("SIGKILL");
      void ended.then(this.#said);
    };
    signal.addEventListener("abort", leave, { once: true });
    for await (const output of child.stdout) yield { output };
    for await (const output of child.stderr) yield { output };
    const state = await ended;
    if (state !== "ok")
      throw new ConnectError(state, Code.Aborted, undefined, [{ desc: CommandExitSchema, value: commandExit(state) }]);
  }

  /** Serves uploads, downloads and the device login. */
  async #http(request: Request, response: Response): Promise<void> {
    const [, kind, name = ""] = (request.url ?? "").split("/");
    const answer = response as ServerResponse;
    if (kind === "upload") {
      if (this.#heldUp) return this.#heldUp();
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const file = readForm(request.headers["content-type"] ?? "", Buffer.concat(chunks));
      await writeFile(join(this.folder, file.name), file.bytes);
      answer.writeHead(204).end();
    } else if (kind === "object") {
      const path = join(this.folder, name);
      answer.writeHead(200, { "content-length": (await stat(path)).size });
      await pipeline(createReadStream(path), answer);
    } else if (kind === "device") {
      const body = {
        device_code: "d",
        user_code: "BCDF-GHJK",
        verification_uri: `https://${this.name}/device`,
        expires_in: 600,
        interval: 5,
      };
      answer.writeHead(200).end(JSON.stringify(body));
    } else if (kind === "token") {
      const [status, body] = this.tokenAnswers.shift() ?? [500, {}];
      answer.writeHead(status).end(JSON.stringify(body));
    } else answer.writeHead(404).end("no such page\n");
  }
}

type Request = Http2ServerRequest | IncomingMessage;
type Response = Http2ServerResponse | ServerResponse;
type ListFolderRequest = { gomoteId: string; directory: string; skip: string[] };
type ListingRequest = { gomoteId: string; directory: string; recursive: boolean; digest: boolean; skipFiles: string[] };

/** The file of a form, which comes last, and the field with its name. */
function readForm(contentType: string, body: Buffer): { readonly name: string; readonly bytes: Buffer } {
  const boundary = /boundary=(\S+)/.exec(contentType)?.[1] ?? "";
  const begin = body.indexOf("\r\n\r\n", body.indexOf('name="file"')) + 4;
  const name = /name="key"\r\n\r\n(\w+)/.exec(body.subarray(0, begin).toString())?.[1] ?? "";
  return { name, bytes: body.subarray(begin, body.lastIndexOf(`\r\n--${boundary}--`)) };
}
