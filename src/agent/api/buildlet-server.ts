/**
 * The buildlet's HTTP server (the API: wire/buildlet-api/buildlet-api.ts). It is given connections by ./connections.ts and
 * serves them until they end; nothing is timed out, since the client decides how long a command may take.
 *
 * Routes marked `guarded` want the password in listen mode; in reverse mode there is none. Errors are plain text. The
 * parts that need much code are loaded at their first use, so that an idle agent stays small.
 */
import { mkdirSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { messageOf } from "../../farm/errors.ts";
import { parseBool } from "../../farm/flags.ts";
import {
  EXCLUDE_FIELD,
  LEASE_GOES_ON,
  LEASE_HEADER,
  ONLY_FIELD,
  SKIPPED_HEADER,
  SNAPSHOT_BESIDE,
  SNAPSHOT_HEADER,
  SYMLINKS_HEADER,
  SYMLINKS_KEEP,
} from "../../wire/buildlet-api/buildlet-api.ts";
import { EXEC_END_PATH } from "../../wire/buildlet-api/execution.ts";
import { LS_DEPTH, LS_NUL, LS_SKIP_NAME } from "../../wire/buildlet-api/ls-line.ts";
import { isRelPath } from "../../wire/buildlet-api/rel-path.ts";
import { TAR_LIMITS } from "../../wire/tar/tar-reader.ts";
import type { IdleMemory } from "../idle-memory.ts";
import { ensureWorkDir } from "../work-dir.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError, fsReason, orSay } from "./api-error.ts";
import type { ExecHandler } from "./exec-handler.ts";
import { KnownDigests } from "./known-digests.ts";
import { HEALTH_BODY, STATUS_BODY, STATUS_TYPE } from "./quick-answer.ts";
import { Removals } from "./removals.ts";
import { checkRelPath, readForm, type Target, targetOf } from "./request.ts";
import { sameText } from "./same-text.ts";
import { Writes } from "./writes.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, target: Target) => Promise<void> | void;

interface Route {
  readonly methods: readonly string[] | "any";
  readonly guarded: boolean;
  readonly handle: Handler;
}

export class BuildletServer implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #server: Server;
  readonly #endShells: () => Promise<boolean>;
  #exec: Promise<ExecHandler> | undefined;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #digests: KnownDigests;
  readonly #writes: Writes;
  readonly #removals: Removals;

  /** `endShells`: the lease is over; says whether there were any. */
  constructor(deps: ApiDeps, idle: IdleMemory, endShells: () => Promise<boolean>) {
    this.#deps = deps;
    this.#digests = new KnownDigests(deps.clock);
    const { clock, workDir } = deps;
    this.#writes = new Writes(clock);
    this.#removals = new Removals({ clock, workDir, writes: this.#writes, endLease: () => this.#endLease() });
    this.#endShells = endShells;
    this.#routes = this.#makeRoutes();
    this.#server = createServer(
      // The coordinator's Host is a machine name or empty; a build may be silent for hours.
      { requireHostHeader: false, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0, noDelay: true },
      (request, response) => {
        response.once("close", idle.begin());
        void this.#serve(request, response);
      },
    );
    this.#server.timeout = 0;
  }

  /** Serves HTTP on `socket` from its next byte on, until it ends. */
  serve(socket: Socket): void {
    this.#server.emit("connection", socket);
  }

  /** Shells ran here: looks for what they left when the lease ends. */
  async expectLeftovers(): Promise<void> {
    (await this.#execHandler()).commands.expectLeftovers();
  }

  /** Kills all commands. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#exec) await (await this.#exec)[Symbol.asyncDispose]();
  }

  /** The session is over, and its connections are closed. */
  async endSession(): Promise<void> {
    if (this.#exec) await (await this.#exec).endSession();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => {});
    try {
      const target = targetOf(request);
      const route = this.#routes.get(target.path);
      if (!route) throw new ApiError(404, "404 page not found");
      if (route.guarded) this.#checkPassword(request);
      if (route.methods !== "any" && !route.methods.includes(request.method ?? "")) {
        if (target.path === "/exec") response.setHeader("Trailer", "Process-State");
        throw new ApiError(400, `Bad method ${request.method} for ${target.path}: want ${route.methods.join(" or ")}`);
      }
      await route.handle(request, response, target);
    } catch (error) {
      if (response.headersSent || response.destroyed) {
        if (!response.destroyed) this.#deps.log(`Cut off ${request.method} ${request.url}: ${messageOf(error)}`);
        response.destroy();
        return;
      }
      const status = error instanceof ApiError ? error.status : 500;
      // Our log may name the paths that the peer is not told.
      const cause = error instanceof ApiError ? (error.cause ?? error) : error;
      if (status >= 500) this.#deps.log(`Could not do ${request.method} ${request.url}: ${messageOf(cause)}`);
      response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" });
      response.write(
        `${error instanceof ApiError ? error.message : `Cannot do ${request.method} ${request.url}: ${fsReason(error)}`}\n`,
      );
      response.end();
    }
  }

  #checkPassword(request: IncomingMessage): void {
    const { password } = this.#deps;
    if (password === "") return;
    const [, encoded = ""] = /^Basic (.*)$/.exec(request.headers.authorization ?? "") ?? [];
    const given = Buffer.from(encoded, "base64")
      .toString("utf8")
      .replace(/^[^:]*:/, "");
    if (!sameText(given, password)) throw new ApiError(403, "invalid password");
  }

  #execHandler(): Promise<ExecHandler> {
    this.#exec ??= import("./exec-handler.ts").then(({ ExecHandler }) => new ExecHandler(this.#deps));
    return this.#exec;
  }

  /** A build has begun: the parts that run commands are loaded while its archive comes in. */
  #prepareExec(): void {
    void this.#execHandler().then((exec) => exec.commands.prepare());
  }

  /** Whoever had the machine has it no more: what they left running would go on writing into the next one's work dir. */
  async #endLease(): Promise<void> {
    if (this.#exec) (await this.#exec).executions.clear();
    if (await this.#endShells()) await this.expectLeftovers();
    // Of a user of our own, an agent before us may have left somebody.
    if (this.#exec || this.#deps.ownUid !== undefined) await (await this.#execHandler()).commands.killLeftovers();
  }

  #makeRoutes(): ReadonlyMap<string, Route> {
    const { system, workDir, platform } = this.#deps;
    const windows = platform === "win32";
    const text = (response: ServerResponse, body: string, type = "text/plain; charset=utf-8") =>
      void response.writeHead(200, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(body);
    const dirOf = (query: URLSearchParams) => {
      const dir = query.get("dir") ?? "";
      return dir === "" ? workDir : join(workDir, checkRelPath("dir", dir, windows));
    };
    return new Map<string, Route>([
      [
        "/",
        { methods: "any", guarded: false, handle: (_, response) => text(response, `buildlet running on ${system}\n`) },
      ],
      ["/healthz", { methods: "any", guarded: false, handle: (_, response) => text(response, HEALTH_BODY) }],
      [
        "/debug/x",
        {
          methods: "any",
          guarded: false,
          handle: (_, response, { query }) =>
            text(response, "X".repeat(Math.min(Math.max(Number(query.get("n")) || 0, 0), 1 << 20))),
        },
      ],
      [
        "/debug/goroutines",
        {
          methods: "any",
          guarded: true,
          handle: (_, response) => text(response, `${process.getActiveResourcesInfo().join("\n")}\n`),
        },
      ],
      [
        "/status",
        {
          methods: ["GET"],
          guarded: true,
          handle: (_, response) => text(response, STATUS_BODY, STATUS_TYPE),
        },
      ],
      ["/workdir", { methods: ["GET"], guarded: true, handle: (_, response) => text(response, workDir) }],
      [
        "/writetgz",
        {
          methods: ["PUT", "POST"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const dir = dirOf(query);
            await this.#writes.run(response, async (signal) => {
              this.#prepareExec();
              const { unpack } = await import("./unpack.ts");
              let body: Readable = request;
              if (request.method === "POST") {
                const { stat } = await import("node:fs/promises");
                const there = query.get("dir") === "go1.4" && (await stat(dir).catch(() => undefined))?.isDirectory();
                if (there) return text(response, "SKIP");
                const url = (await readForm(request, query)).get("url") ?? "";
                if (url === "") throw new ApiError(400, "Cannot fetch: parameter url is missing");
                const { fetchBody } = await import("../../dial/http-get.ts");
                const fetched = await fetchBody(url, { signal }).catch((error) => {
                  throw new ApiError(500, `Cannot fetch ${url}: ${messageOf(error)}`, { cause: error });
                });
                response.once("close", () => fetched.destroy());
                body = fetched;
              }
              signal.throwIfAborted();
              await orSay(`Cannot make folder ${JSON.stringify(query.get("dir") ?? "")}`, async () => {
                ensureWorkDir(workDir);
                mkdirSync(dir, { recursive: true, mode: 0o755 });
              });
              const { clock, tarLimits: limits = TAR_LIMITS } = this.#deps;
              const keepLinks =
                request.method === "PUT" && request.headers[SYMLINKS_HEADER.toLowerCase()] === SYMLINKS_KEEP;
              const nowSeconds = () => clock.now() / 1000;
              const skipped = await unpack(body, dir, { platform, limits, nowSeconds, keepLinks, signal });
              if (keepLinks) response.setHeader(SKIPPED_HEADER, skipped);
              text(response, "OK");
            });
          },
        },
      ],
      [
        "/write",
        {
          methods: ["PUT"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const path = checkRelPath("path", query.get("path") ?? "", windows);
            const given = query.get("mode") ?? "";
            const mode = Number(given);
            if (!/^\d+$/.test(given) || mode > 0o777) {
              throw new ApiError(
                400,
                `Bad mode ${JSON.stringify(given)}: want permission bits in decimal, as 420 for 0644`,
              );
            }
            await this.#writes.run(response, async (signal) => {
              const { writeFile } = await import("./unpack.ts");
              await orSay(`Cannot write ${JSON.stringify(path)}`, async () => {
                signal.throwIfAborted();
                ensureWorkDir(workDir);
                await writeFile(request, join(workDir, path), mode, { platform, signal });
              });
              text(response, "OK");
            });
          },
        },
      ],
      [
        "/tgz",
        {
          methods: ["GET"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const dir = join(workDir, checkRelPath("dir", query.get("dir") ?? "", windows));
            response.setHeader("Content-Type", "application/x-gzip");
            if (request.headers[SNAPSHOT_HEADER.toLowerCase()] === SNAPSHOT_BESIDE) {
              const { packBeside } = await import("./pack-beside.ts");
              response.setHeader(SNAPSHOT_HEADER, SNAPSHOT_BESIDE);
              const order = { dir, exclude: query.getAll(EXCLUDE_FIELD) };
              await sendAll(response, packBeside(this.#deps.program, order), "cut");
              return;
            }
            const { pack, packFiles } = await import("./pack.ts");
            mkdirSync(workDir, { recursive: true });
            const only = query.getAll(ONLY_FIELD).map((path) => checkRelPath(ONLY_FIELD, path, windows));
            await sendAll(response, only.length === 0 ? pack(dir) : packFiles(dir, only), "cut");
          },
        },
      ],
      [
        "/ls",
        {
          methods: ["GET"],
          guarded: true,
          handle: async (_, response, { query }) => {
            const yes = (name: string) => parseBool(query.get(name) ?? "") ?? false;
            const { list } = await import("./list.ts");
            const digests = yes("digest") ? this.#digests : undefined;
            const end = yes(LS_NUL) ? "\0" : "\n";
            const depth = Number(query.get(LS_DEPTH) ?? "") || Number.POSITIVE_INFINITY;
            const skip = new Set(query.getAll("skip"));
            const skipNames = new Set(query.getAll(LS_SKIP_NAME));
            const options = { recursive: yes("recursive"), depth, digests, skip, skipNames, end } as const;
            response.setHeader("Content-Type", "text/plain; charset=utf-8");
            const dir = dirOf(query);
            mkdirSync(workDir, { recursive: true }); // nothing is in it after /removeall
            await orSay(`Cannot list ${JSON.stringify(query.get("dir") ?? "")}`, () =>
              sendAll(response, list(dir, options), "explain"),
            );
          },
        },
      ],
      [
        "/removeall",
        {
          methods: ["POST"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const paths = (await readForm(request, query)).getAll("path");
            if (paths.length === 0) throw new ApiError(400, "Cannot delete: parameter path is missing");
            for (const path of paths) {
              if (!isRelPath(path, windows)) checkRelPath("path", path, windows);
            }
            await this.#removals.remove(paths, request.headers[LEASE_HEADER.toLowerCase()] === LEASE_GOES_ON);
            this.#prepareExec();
            response.writeHead(200, { "Content-Length": 0 }).end();
          },
        },
      ],
      [
        "/exec",
        {
          methods: ["POST"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const { lease } = this.#writes;
            await (await this.#execHandler()).handle(request, response, query, lease);
          },
        },
      ],
      [
        EXEC_END_PATH,
        {
          methods: ["POST"],
          guarded: true,
          handle: async (request, response, { query }) => {
            const id = (await readForm(request, query)).get("id") ?? "";
            await (await this.#execHandler()).executions.end(id);
            response.writeHead(200, { "Content-Length": 0 }).end();
          },
        },
      ],
      [
        "/halt",
        {
          methods: ["POST"],
          guarded: true,
          handle: (_, response) => {
            response.writeHead(200, { "Content-Length": 0 }).end();
            this.#deps.halt();
          },
        },
      ],
      // Reached only on a connection that served something else before; accept() takes the others.
      [
        "/connect-ssh",
        {
          methods: ["POST"],
          guarded: true,
          handle: () => {
            throw new ApiError(400, "Cannot open an ssh tunnel on a connection that was used before: dial anew");
          },
        },
      ],
    ]);
  }
}

/**
 * Sends what `pieces` gives, waiting for the client where it is slow. An error before the first piece is explained when
 * asked for; later the connection is cut, so that the client sees that the body is not whole.
 */
async function sendAll(
  response: ServerResponse,
  pieces: AsyncGenerator<Buffer>,
  onError: "cut" | "explain",
): Promise<void> {
  const gone = new Promise<void>((resolve) => response.once("close", resolve));
  try {
    for await (const piece of pieces) {
      if (response.destroyed) return;
      if (!response.write(piece)) await Promise.race([new Promise((resolve) => response.once("drain", resolve)), gone]);
    }
    response.end();
  } catch (error) {
    if (onError === "explain" && !response.headersSent) throw error;
    response.destroy();
  }
}
