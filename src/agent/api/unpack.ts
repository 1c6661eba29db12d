/**
 * Unpacks a tar.gz into a folder (the rule for each entry: wire/tar/extract-rule.ts).
 *
 * Unzipping runs on a thread of its own. This thread writes the files by synchronous calls, a few for each file, which
 * is several times faster than a promise per piece. The event loop gets its turn between chunks, so /status is answered
 * meanwhile. A small archive that has come whole is unzipped by a synchronous call, too: waking the other thread would
 * take most of its time.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { IncomingMessage } from "node:http";
import { dirname, join } from "node:path";
import { addAbortSignal, Readable } from "node:stream";
import { errnoOf } from "../../farm/errors.ts";
import { extractedTime, extraction } from "../../wire/tar/extract-rule.ts";
import { TarError, type TarHeader, tarText } from "../../wire/tar/tar.ts";
import { type TarLimits, TarReader } from "../../wire/tar/tar-reader.ts";
import { ApiError, fsReason } from "./api-error.ts";

const CHUNK = 512 * 1024;
/** The sizes up to which an archive counts as small, packed and unpacked. */
const SMALL_PACKED = 64 * 1024;
const SMALL = 1024 * 1024;

export interface UnpackOptions {
  readonly platform: NodeJS.Platform;
  readonly limits: TarLimits;
  readonly nowSeconds: () => number;
  /** Whether to make symbolic links. Otherwise they are left out silently. */
  readonly keepLinks?: boolean;
  /** Aborts when the unpacking is to be given up. */
  readonly signal?: AbortSignal;
}

/**
 * Unpacks `body` into `dir`. Resolves with the number of links that could not be made.
 * Rejects with an ApiError: 400 for a bad archive, 500 for what the disk refuses. What was unpacked before stays.
 */
export async function unpack(body: Readable, dir: string, options: UnpackOptions): Promise<number> {
  const extractor = new Extractor(dir, options);
  const reader = new TarReader(extractor, options.limits);
  try {
    for await (const chunk of unzipped(body, options.signal)) {
      options.signal?.throwIfAborted();
      reader.push(chunk);
    }
    reader.close();
    return extractor.makeLinks();
  } catch (error) {
    throw asApiError(error, extractor.at);
  } finally {
    extractor.abandon();
  }
}

async function* unzipped(body: Readable, signal: AbortSignal | undefined): AsyncGenerator<Buffer, void> {
  const { createGunzip, gunzipSync } = await import("node:zlib");
  let packed = body;
  const hasCome = body instanceof IncomingMessage && body.complete && body.readableLength <= SMALL_PACKED;
  const whole: Buffer | null = hasCome ? body.read() : null;
  if (whole !== null) {
    try {
      yield gunzipSync(whole, { maxOutputLength: SMALL });
      return;
    } catch (error) {
      if (errnoOf(error) !== "ERR_BUFFER_TOO_LARGE") throw error;
    }
    packed = Readable.from([whole]);
  }
  const gunzip = createGunzip({ chunkSize: CHUNK });
  if (signal) addAbortSignal(signal, gunzip);
  const lost = (error: Error) => gunzip.destroy(error);
  packed.once("error", lost);
  packed.once("aborted", () => lost(new Error("The upload was cut off")));
  packed.pipe(gunzip);
  try {
    yield* gunzip;
  } finally {
    packed.unpipe(gunzip);
    packed.off("error", lost);
    gunzip.destroy();
  }
}

/** The error for the client. `at` is the name of the entry that was being unpacked. */
function asApiError(error: unknown, at: string): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TarError) return new ApiError(400, error.message, { cause: error });
  const errno = errnoOf(error);
  const message = fsReason(error);
  if (errno.startsWith("Z_"))
    return new ApiError(400, `Cannot read archive: not gzip, or damaged (${message})`, { cause: error });
  const what = at === "" ? "" : ` ${JSON.stringify(at)}`;
  return new ApiError(500, `Cannot unpack${what}: ${message}`, { cause: error });
}

class Extractor {
  readonly #dir: string;
  readonly #options: UnpackOptions;
  readonly #made = new Set<string>(); // folders that are known to exist
  readonly #links: TarHeader[] = [];
  #skipped = 0;
  #name = "";
  #fd = -1;
  #mtime = 0;

  constructor(dir: string, options: UnpackOptions) {
    this.#dir = dir;
    this.#options = options;
  }

  /** The name of the entry that is being unpacked, as text. */
  get at(): string {
    return tarText(this.#name);
  }

  entry(header: TarHeader): void {
    const { platform, keepLinks } = this.#options;
    const action = extraction(header, platform === "win32", keepLinks);
    if (action.do === "skip") return;
    if (action.do === "skip-link") {
      this.#skipped++;
      return;
    }
    this.#name = header.name;
    if (action.do === "mkdir") {
      this.#makeDir(header.name);
      return;
    }
    this.#makeDir(dirname(header.name));
    if (action.do === "link") {
      this.#links.push(header);
      return;
    }
    const path = this.#path(header.name);
    // A signed program that is overwritten in place is killed by macOS when it is next run.
    if (platform === "darwin" && action.mode & 0o111) rmSync(path, { force: true });
    // Without O_NONBLOCK a FIFO that a build left at this name would stop the whole agent.
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | (constants.O_NONBLOCK ?? 0);
    this.#fd = openSync(path, flags, action.mode);
    this.#mtime = header.mtime;
  }

  data(piece: Uint8Array): void {
    if (this.#fd === -1) return;
    for (let at = 0; at < piece.length; ) at += writeSync(this.#fd, piece, at);
  }

  end(): void {
    if (this.#fd === -1) return;
    const now = this.#options.nowSeconds();
    try {
      futimesSync(this.#fd, now, extractedTime(this.#mtime, now));
    } catch {
      // Some file systems keep no times; the content is what counts.
    }
    this.abandon();
  }

  /** Makes the links, now that everything else is there. Returns how many links were not made. */
  makeLinks(): number {
    for (const { name, linkName } of this.#links) {
      this.#name = name;
      const path = this.#path(name);
      const there = lstatSync(path, { throwIfNoEntry: false });
      if (there?.isDirectory()) {
        throw new ApiError(400, `Cannot unpack ${JSON.stringify(this.at)}: it is a link, and a folder has that name`);
      }
      if (there) rmSync(path);
      try {
        symlinkSync(bytesOrText(linkName), path);
      } catch (error) {
        // File systems without links; on Windows, users who may not make any.
        if (errnoOf(error) !== "EPERM" && errnoOf(error) !== "ENOSYS") throw error;
        this.#skipped++;
      }
    }
    return this.#skipped;
  }

  /** Closes the file that is open, if any. */
  abandon(): void {
    if (this.#fd === -1) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }

  #makeDir(name: string): void {
    if (this.#made.has(name)) return;
    mkdirSync(this.#path(name), { recursive: true, mode: 0o755 });
    this.#made.add(name);
  }

  #path(name: string): string | Buffer {
    const text = bytesOrText(name);
    if (typeof text === "string") return `${this.#dir}/${text}`;
    return Buffer.concat([Buffer.from(`${this.#dir}/`), text]);
  }
}

/** The name as a string where it is text, as bytes where it is not. */
export function bytesOrText(name: string): string | Buffer {
  const text = tarText(name);
  return text.includes("\ufffd") ? Buffer.from(name, "latin1") : text;
}

/**
 * Writes one file and forces its mode, whatever was there. A file comes whole or stays as it was: it is written beside
 * its place and renamed at the end. A link, a FIFO or a device of that name is written to instead. `signal` gives the
 * write up and cuts its sender off.
 */
export async function writeFile(
  body: Readable,
  path: string,
  mode: number,
  { platform, signal }: { readonly platform: NodeJS.Platform; readonly signal: AbortSignal },
): Promise<void> {
  addAbortSignal(signal, body);
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there && !there.isFile()) return await writeTo(body, path, mode, platform);
  const beside = join(dirname(path), `.barnraiser-${randomBytes(8).toString("hex")}.part`);
  try {
    await writeTo(body, beside, mode, platform);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}

async function writeTo(body: Readable, path: string, mode: number, platform: NodeJS.Platform): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | (constants.O_NONBLOCK ?? 0);
  const fd = openSync(path, flags, mode);
  try {
    for await (const chunk of body) for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
    if (platform !== "win32") fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}
