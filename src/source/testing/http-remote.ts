/** A small git server over HTTP: git's own CGI program behind node:http, or files only, or one that is of no use. */
import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export type Behaviour =
  | { readonly kind: "smart" | "dumb"; readonly folder: string }
  | { readonly kind: "password"; readonly folder: string; readonly password: string }
  | { readonly kind: "silent" };

export class HttpRemote implements AsyncDisposable {
  readonly url: string;
  readonly requests: string[] = [];
  /** Stops in the middle of its next answer that carries a pack. */
  stall = false;
  /** Resolves when it has stopped so. */
  readonly stalled: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async listen(behaviour: Behaviour): Promise<HttpRemote> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const remote = new HttpRemote(server);
    server.on("request", (request, response) => {
      remote.requests.push(`${request.method} ${request.url}`);
      answer(remote, behaviour, request, response);
    });
    return remote;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function answer(remote: HttpRemote, behaviour: Behaviour, request: IncomingMessage, response: ServerResponse): void {
  if (behaviour.kind === "silent") return;
  if (behaviour.kind === "password") {
    const [, given = ""] = /^Basic (.*)$/.exec(request.headers.authorization ?? "") ?? [];
    if (!Buffer.from(given, "base64").toString().endsWith(`:${behaviour.password}`)) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
      return;
    }
  }
  if (behaviour.kind === "dumb") {
    createReadStream(join(behaviour.folder, new URL(request.url ?? "", "http://x").pathname))
      .on("error", () => response.writeHead(404).end())
      .pipe(response);
    return;
  }
  cgi(remote, behaviour.folder, request, response);
}

function cgi(remote: HttpRemote, folder: string, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
  const child = spawn("git", ["-c", "safe.directory=*", "http-backend"], {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: "1",
      REQUEST_METHOD: request.method,
      PATH_INFO: pathname,
      QUERY_STRING: searchParams.toString(),
      CONTENT_TYPE: request.headers["content-type"],
      HTTP_CONTENT_ENCODING: request.headers["content-encoding"],
      GIT_PROTOCOL: request.headers["git-protocol"]?.toString(),
      REMOTE_USER: "u",
      REMOTE_ADDR: "127.0.0.1",
    },
    stdio: ["pipe", "pipe", "ignore"],
  });
  request.pipe(child.stdin).on("error", () => {});
  let head = Buffer.alloc(0);
  let headed = false;
  child.stdout.on("data", (chunk: Buffer) => {
    const pack = remote.stall ? chunk.indexOf("PACK") : -1;
    if (pack >= 0) {
      if (headed) response.write(chunk.subarray(0, pack + 12));
      child.stdout.removeAllListeners();
      child.kill();
      remote.stalled.resolve();
      return;
    }
    if (headed) {
      response.write(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    headed = true;
    const headers = head
      .subarray(0, end)
      .toString()
      .split("\r\n")
      .map((line) => line.split(": "));
    const status = Number(headers.find(([name]) => name === "Status")?.[1]?.slice(0, 3) ?? 200);
    response.writeHead(status, Object.fromEntries(headers.filter(([name]) => name !== "Status")));
    response.write(head.subarray(end + 4));
  });
  child.stdout.on("end", () => response.end());
}
