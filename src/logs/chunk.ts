/**
 * Packs chunks with zstd at its first level, off the main thread. A chunk that this does not make smaller stays as it
 * came.
 */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { FarmError } from "../farm/errors.ts";
import type { StoredChunk } from "../store/logs.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

const LF = 10;
/**
 * Smaller chunks are not packed: a frame's own bytes and the detour over another thread would cost more than they save.
 */
const WORTH_PACKING = 256;

export async function pack(raw: Buffer): Promise<{ packed: boolean; data: Buffer }> {
  if (raw.length < WORTH_PACKING) return { packed: false, data: raw };
  const params = { [constants.ZSTD_c_compressionLevel]: 1 };
  const data = await compress(raw, { params, chunkSize: Math.max(1024, raw.length) });
  return data.length < raw.length ? { packed: true, data } : { packed: false, data: raw };
}

export async function unpack(chunk: StoredChunk): Promise<Buffer> {
  if (!chunk.packed) return chunk.data;
  const raw = await decompress(chunk.data, { chunkSize: Math.max(1024, chunk.length), maxOutputLength: chunk.length });
  if (raw.length !== chunk.length) {
    throw new FarmError(
      "internal",
      `Cannot unpack the log chunk at ${chunk.at}: ${raw.length} bytes, want ${chunk.length}`,
    );
  }
  return raw;
}

export function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let i = bytes.indexOf(LF); i >= 0; i = bytes.indexOf(LF, i + 1)) lines++;
  return lines;
}

/** The offset just after the `n`th LF (1 is the first) of `bytes`, or -1 when there are fewer. */
export function afterLine(bytes: Buffer, n: number): number {
  let i = -1;
  for (let left = n; left > 0; left--) {
    i = bytes.indexOf(LF, i + 1);
    if (i < 0) return -1;
  }
  return i + 1;
}
