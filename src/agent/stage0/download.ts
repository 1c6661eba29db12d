/**
 * Keeps one file the same as what a URL serves, fetching it only when it changed.
 *
 *   HEAD   the file is current when Content-Length is its size, Last-Modified is its mtime and, where the server sends
 *          a digest, that digest is the file's
 *   GET    otherwise: to FILE.tmp, checked, given Last-Modified as mtime, then renamed over FILE
 *
 * FILE.sha256 holds the digest and size of FILE and of its predecessor. It is written first, so that the power may fail
 * at any moment: `checkFile` reads there whether FILE is whole.
 *
 * The digest is SHA-256, from `Digest: sha-256=<base64>` or an ETag of 64 hex digits. After any failure FILE is as it
 * was: the last good one.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { dirname } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { seconds } from "../../farm/ids.ts";

const TRIES = 3;
const PAUSE = seconds(2);
/** An agent is some 100 KB; the original's binary some 20 MB. */
const SIZE_LIMIT = 256 * 1024 * 1024;

export interface DownloadDeps {
  readonly clock: Clock;
  readonly get: (method: "GET" | "HEAD") => Promise<IncomingMessage>;
  readonly log: (line: string) => void;
}

/** Tries three times at most. Resolves with whether `file` changed. `first` answers a HEAD that was sent before. */
export async function download(file: string, deps: DownloadDeps, first?: IncomingMessage): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await downloadOnce(file, deps, attempt === 1 ? first : undefined);
    } catch (error) {
      if (attempt === TRIES) throw error;
      deps.log(`Could not download the agent, trying again: ${messageOf(error)}`);
      await deps.clock.sleep(PAUSE);
    }
  }
}

async function downloadOnce(file: string, { get }: DownloadDeps, first: IncomingMessage | undefined): Promise<boolean> {
  const head = first ?? (await get("HEAD"));
  head.resume();
  if (head.statusCode !== 200)
    throw new Error(`HEAD is answered with ${head.statusCode} ${head.statusMessage}, want 200`);
  if (isCurrent(file, head.headers)) return false;
  const response = await get("GET");
  if (response.statusCode !== 200) {
    response.destroy();
    throw new Error(`GET is answered with ${response.statusCode} ${response.statusMessage}, want 200`);
  }
  const modified = lastModified(response.headers);
  if (modified === undefined) {
    response.destroy();
    throw new Error("the answer has no valid Last-Modified");
  }
  const body = await readBody(response);
  const wanted = digestOf(response.headers);
  if (wanted !== undefined && wanted !== sha256(body))
    throw new Error("the content does not have the SHA-256 that the server tells");
  const before = stampOf(file);
  const stamps = [{ digest: sha256(body), size: body.length }, ...(before ? [before] : [])];
  replace(`${file}.sha256`, stamps.map(({ digest, size }) => `${digest} ${size}\n`).join(""), 0o644);
  replace(file, body, 0o755, modified / 1000);
  return true;
}

/** Writes `file` so that after a power cut either the old or the new one is there, whole. */
function replace(file: string, content: string | Uint8Array, mode: number, seconds?: number): void {
  const draft = `${file}.tmp`;
  try {
    const fd = openSync(draft, "w", mode);
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (seconds !== undefined) utimesSync(draft, seconds, seconds);
    renameSync(draft, file);
    if (process.platform !== "win32") syncFolder(dirname(file)); // Windows cannot open folders
  } finally {
    rmSync(draft, { force: true });
  }
}

function syncFolder(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } catch {
    // Some file systems do not sync folders.
  } finally {
    closeSync(fd);
  }
}

interface Stamp {
  readonly digest: string;
  readonly size: number;
}

function stampOf(file: string): Stamp | undefined {
  try {
    const content = readFileSync(file);
    return { digest: sha256(content), size: content.length };
  } catch {
    return undefined;
  }
}

/** Whether `file` is what was downloaded: "missing", "whole", or a sentence that says what is wrong with it. */
export function checkFile(file: string): "missing" | "whole" | { readonly damage: string } {
  const found = stampOf(file);
  if (!found) return "missing";
  let kept: string[];
  try {
    kept = readFileSync(`${file}.sha256`, "utf8").split("\n");
  } catch {
    return { damage: "there is no digest to check it by" };
  }
  if (kept.includes(`${found.digest} ${found.size}`)) return "whole";
  const [, size = ""] = kept[0]?.split(" ") ?? [];
  if (size !== String(found.size)) return { damage: `it has ${found.size} of ${size} bytes` };
  return { damage: "it does not have the SHA-256 that it was downloaded with" };
}

function isCurrent(file: string, headers: IncomingHttpHeaders): boolean {
  const found = statSync(file, { throwIfNoEntry: false });
  const modified = lastModified(headers);
  if (!found?.isFile() || modified === undefined) return false;
  if (headers["content-length"] !== String(found.size) || found.mtimeMs !== modified) return false;
  const wanted = digestOf(headers);
  return checkFile(file) === "whole" && (wanted === undefined || wanted === stampOf(file)?.digest);
}

function lastModified(headers: IncomingHttpHeaders): number | undefined {
  const time = Date.parse(headers["last-modified"] ?? "");
  return Number.isNaN(time) ? undefined : time;
}

/** The digest that the server sent, in lower-case hex. */
function digestOf(headers: IncomingHttpHeaders): string | undefined {
  const digest = headers.digest;
  const [, base64] = /(?:^|,)\s*sha-256=([A-Za-z0-9+/]{43}=)/i.exec(typeof digest === "string" ? digest : "") ?? [];
  if (base64 !== undefined) return Buffer.from(base64, "base64").toString("hex");
  const [, hex] = /^"([0-9a-f]{64})"$/.exec(headers.etag ?? "") ?? [];
  return hex;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function readBody(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > SIZE_LIMIT) throw new Error(`the content is larger than ${SIZE_LIMIT} bytes`);
    chunks.push(chunk);
  }
  const stated = response.headers["content-length"];
  if (stated !== undefined && Number(stated) !== length)
    throw new Error(`the content ended after ${length} of ${stated} bytes`);
  return Buffer.concat(chunks);
}
