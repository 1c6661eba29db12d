/**
 * The tree of a commit as a gzipped tar: made once per commit from its mirror, and kept as a blob while there is room.
 *
 * Names in it are relative to the root of the tree. Directories, modes and symbolic links are as committed, and every
 * time is the commit's. So the same commit gives the same bytes. Submodules are empty folders.
 *
 * The original buildlet silently skips symbolic links, wherever they lead. The archive has them nevertheless: the
 * machine that unpacks it decides what to do with them.
 */
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { BlobCache, Cached } from "../blobs/blob-cache.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { Mirror } from "./mirror.ts";

export interface TarballsDeps {
  readonly cache: BlobCache;
  readonly mirror: (repo: string) => Mirror;
  /** Fetches a commit that another coordinator found into the mirror. Resolves when that was tried. */
  readonly bring: (repo: string, hash: string) => Promise<void>;
  /** How many bytes a packed tarball may have. A larger one is refused. */
  readonly maxBytes: number;
  /** Aborts all tarballs that are being made. */
  readonly stop: AbortSignal;
}

/**
 * The tarball of a commit. Resolves when there is something of it to read. When `signal` aborts, the making goes on,
 * since others may be reading. Throws FarmError `not-found`, `too-large` or `unavailable`. Its stream does so too, when
 * the failure comes later.
 */
export async function tarball(deps: TarballsDeps, repo: string, hash: string, signal: AbortSignal): Promise<Cached> {
  if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash)) {
    const given = `${JSON.stringify(repo)} at ${JSON.stringify(hash)}`;
    throw new FarmError("bad-request", `Cannot pack the source of ${given}: want a whole commit hash`);
  }
  return abandonable(
    deps.cache.get(`${repo}/${hash}.tar.gz`, () => packed(deps, repo, hash)),
    signal,
  );
}

async function* packed(deps: TarballsDeps, repo: string, hash: string): AsyncGenerator<Buffer, void> {
  const what = `the source of ${JSON.stringify(repo)} at ${JSON.stringify(hash.slice(0, 12))}`;
  const mirror = deps.mirror(repo);
  try {
    if (!(await mirror.has(hash, deps.stop))) await deps.bring(repo, hash);
    yield* limited(gzipped(mirror.archive(hash, deps.stop)), deps.maxBytes, what);
  } catch (error) {
    deps.stop.throwIfAborted();
    if (error instanceof FarmError) throw error;
    const missing = !(await mirror.has(hash, deps.stop).catch(() => true));
    if (missing)
      throw new FarmError("not-found", `Cannot pack ${what}: the farm's mirror has no such commit`, { cause: error });
    throw new FarmError("unavailable", `Cannot pack ${what}: ${messageOf(error)}`, { cause: error });
  }
}

/** Packs a tar at level 1, since a higher level would be slower than the network. */
async function* gzipped(tar: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  const gzip = createGzip({ level: 1, chunkSize: 256 * 1024 });
  const feeding = pipeline(tar, gzip).catch((error: unknown) =>
    gzip.destroy(error instanceof Error ? error : undefined),
  );
  try {
    for await (const chunk of gzip) yield chunk;
  } finally {
    gzip.destroy();
    await feeding;
  }
}

async function* limited(content: AsyncIterable<Buffer>, maxBytes: number, what: string): AsyncGenerator<Buffer, void> {
  let bytes = 0;
  for await (const chunk of content) {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      throw new FarmError("too-large", `Cannot pack ${what}: it is over the limit of ${maxBytes} bytes, packed`);
    }
    yield chunk;
  }
}

/** Settles as `work` does, or rejects with the reason of `signal` when that aborts first. */
function abandonable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const abort = (): void => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  return promise;
}
