/**
 * The buildlet's HTTP server. It is given connections by ./connections.ts and serves them until they end. Nothing is
 * timed out, since the client decides how long a command may take. What it serves stands in ./routes.ts.
 *
 * Errors are plain text. Parts that need much code are loaded at their first use, so that an idle agent stays small.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { messageOf } from "../../farm/errors.ts";
import { PROCESS_STATE } from "../../wire/buildlet-api/buildlet-api.ts";
import type { IdleMemory } from "../idle-memory.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError, fsReason } from "./api-error.ts";
import type { ExecHandler } from "./exec-handler.ts";
import { FileCalls } from "./file-calls.ts";
import { targetOf } from "./request.ts";
import { type Route, routesOf } from "./routes.ts";
import { sameText } from "./same-text.ts";

export class BuildletServer implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #server: Server;
  readonly #endShells: () => Promise<boolean>;
  #exec: Promise<ExecHandler> | undefined;
  readonly #routes: ReadonlyMap<string, Route>;

  /** `endShells` ends the shells of a lease that is over, and says whether there were any. */
  constructor(deps: ApiDeps, idle: IdleMemory, endShells: () => Promise<boolean>) {
    this.#deps = deps;
    this.#endShells = endShells;
    const files = new FileCalls(deps, { prepare: () => this.#prepareExec(), endLease: () => this.#endLease() });
    this.#routes = routesOf(deps, { files, exec: () => this.#execHandler() });
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

  /** Shells ran here: the end of the lease will look for processes that they left. */
  async expectLeftovers(): Promise<void> {
    (await this.#execHandler()).commands.expectLeftovers();
  }

  /** Kills all commands. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#exec) await (await this.#exec)[Symbol.asyncDispose]();
  }

  /** Ends the session: its connections are closed already. */
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
        if (target.path === "/exec") response.setHeader("Trailer", PROCESS_STATE);
        throw new ApiError(400, `Bad method ${request.method} for ${target.path}: want ${route.methods.join(" or ")}`);
      }
      await route.handle({ request, response, query: target.query });
    } catch (error) {
      this.#fail(request, response, error);
    }
  }

  /** Answers with why, or cuts the connection where an answer has begun. */
  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      if (!response.destroyed) this.#deps.log(`Cut off ${request.method} ${request.url}: ${messageOf(error)}`);
      response.destroy();
      return;
    }
    const told = error instanceof ApiError;
    const status = told ? error.status : 500;
    // Our log may name the paths that the peer must not learn.
    const cause = told ? (error.cause ?? error) : error;
    if (status >= 500) this.#deps.log(`Could not do ${request.method} ${request.url}: ${messageOf(cause)}`);
    const why = told ? error.message : `Cannot do ${request.method} ${request.url}: ${fsReason(error)}`;
    response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" });
    response.write(`${why}\n`);
    response.end();
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

  /** Loads the code that runs commands while the archive of a build comes in. */
  #prepareExec(): void {
    void this.#execHandler().then((exec) => exec.commands.prepare());
  }

  /** Ends what a lease that is over left running: it would go on writing into the work dir of the next lease. */
  async #endLease(): Promise<void> {
    if (this.#exec) (await this.#exec).executions.clear();
    if (await this.#endShells()) await this.expectLeftovers();
    // Where the agent has a user of its own, an earlier agent may have left processes of that user.
    if (this.#exec || this.#deps.ownUid !== undefined) await (await this.#execHandler()).commands.killLeftovers();
  }
}
