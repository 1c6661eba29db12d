/**
 * Programs that run on other people's computers: `/agents/NAME` for machines, `/gomote.mjs` for developers. `GET` and
 * `HEAD`.
 *
 * `stage0` fetches a program again only when its size or Last-Modified differ. It checks the bytes against `Digest`
 * (SHA-256, base64); the ETag is the same digest in hex. Anybody may fetch the programs: they hold no secret.
 */
import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { RequestListener } from "./front-door.ts";

const AGENTS_PATH = "/agents/";
/** The file name of the command that developers run. */
const COMMAND_FILE = "gomote.mjs";

export interface AgentFile {
  readonly body: Buffer;
  /** The SHA-256 of `body`, in lower-case hex. */
  readonly sha256: string;
  readonly modified: Date;
}

/** The programs in `folder` (dist/agents), and the developers' command beside that folder, by file name. */
export async function readAgents(folder: string): Promise<ReadonlyMap<string, AgentFile>> {
  const files = new Map<string, AgentFile>();
  for (const name of [...(await readdir(folder)), `../${COMMAND_FILE}`]) {
    const path = join(folder, name);
    const [body, { mtime }] = await Promise.all([readFile(path), stat(path)]);
    const sha256 = createHash("sha256").update(body).digest("hex");
    // HTTP dates have whole seconds, and a machine compares exactly.
    files.set(basename(path), { body, sha256, modified: new Date(Math.floor(mtime.getTime() / 1000) * 1000) });
  }
  return files;
}

/** Answers requests for programs. All others go to `next`. */
export function serveAgents(files: ReadonlyMap<string, AgentFile>, next: RequestListener): RequestListener {
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    const isCommand = path === `/${COMMAND_FILE}`;
    if (!isCommand && !path.startsWith(AGENTS_PATH)) {
      next(request, response);
      return;
    }
    const name = isCommand ? COMMAND_FILE : path.slice(AGENTS_PATH.length);
    const answer = answerTo(request.method ?? "", name, request.headers["if-none-match"], files);
    const out = response as { writeHead(status: number, headers: object): unknown; end(body?: Buffer): unknown };
    out.writeHead(answer.status, answer.headers);
    out.end(request.method === "HEAD" ? undefined : answer.body);
  };
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

function answerTo(
  method: string,
  name: string,
  known: string | undefined,
  files: ReadonlyMap<string, AgentFile>,
): Answer {
  if (method !== "GET" && method !== "HEAD") return text(405, "only GET and HEAD\n", { allow: "GET, HEAD" });
  const file = files.get(name);
  if (!file) return text(404, `no such program; there are: ${[...files.keys()].sort().join(", ")}\n`);
  const etag = `"${file.sha256}"`;
  if (known === etag) return { status: 304, headers: { etag } };
  return {
    status: 200,
    headers: {
      "content-type": name.endsWith(".tgz") ? "application/gzip" : "text/javascript; charset=utf-8",
      "content-length": String(file.body.length),
      "last-modified": file.modified.toUTCString(),
      etag,
      digest: `sha-256=${Buffer.from(file.sha256, "hex").toString("base64")}`,
      "cache-control": "no-cache",
    },
    body: file.body,
  };
}

function text(status: number, message: string, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers }, body: Buffer.from(message) };
}
