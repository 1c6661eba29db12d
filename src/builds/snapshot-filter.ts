/**
 * Removes from a snapshot what its builder excludes, for a machine that cannot do that itself. The archive is unpacked,
 * looked through and packed again as it comes. Content passes unchanged. Owners and fractions of seconds are lost, but
 * no machine unpacks them.
 */
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { FarmError } from "../farm/errors.ts";
import { cleanPath, isRelPath } from "../wire/buildlet-api/rel-path.ts";
import { excluder } from "../wire/tar/exclude.ts";
import { type TarHeader, tarText } from "../wire/tar/tar.ts";
import { TarReader } from "../wire/tar/tar-reader.ts";
import { tarEnd, tarHeader, tarPadding } from "../wire/tar/tar-writer.ts";

/**
 * The tar.gz `body` without what `exclude` (lines of a .gitignore) names. Fails as `body` does, and for anything that
 * is not a tar.gz.
 */
export async function* withoutExcluded(body: Readable, exclude: readonly string[]): AsyncGenerator<Buffer> {
  const gzip = createGzip({ level: 1, chunkSize: 256 * 1024 });
  const fed = pipeline(body, createGunzip({ chunkSize: 256 * 1024 }), (tar) => filtered(tar, exclude), gzip);
  fed.catch(() => {}); // it ends `gzip` with the same error
  try {
    for await (const chunk of gzip) yield chunk;
    await fed;
  } finally {
    gzip.destroy();
    body.destroy();
  }
}

async function* filtered(tar: AsyncIterable<Uint8Array>, exclude: readonly string[]): AsyncGenerator<Buffer> {
  const isExcluded = excluder(exclude);
  let out: Buffer[] = [];
  let padding: Buffer | undefined; // what follows the entry that is being kept
  const reader = new TarReader({
    entry: (header) => {
      padding = undefined;
      const written = keptHeader(header, isExcluded);
      if (!written) return;
      out.push(written);
      padding = tarPadding(header.size);
    },
    data: (piece) => {
      if (padding) out.push(Buffer.from(piece));
    },
    end: () => {
      if (padding && padding.length > 0) out.push(padding);
    },
  });
  for await (const chunk of tar) {
    reader.push(chunk);
    yield* out;
    out = [];
  }
  reader.close();
  yield tarEnd();
}

/** The header of an entry in the new archive; undefined: the entry is left out. */
function keptHeader(header: TarHeader, isExcluded: (name: string) => boolean): Buffer | undefined {
  const { type, mode, mtime, size } = header;
  const plain = cleanPath(header.name);
  if (plain === ".") return undefined;
  if (!isRelPath(tarText(plain), false)) {
    throw new FarmError(
      "machine-broken",
      `its archive holds ${JSON.stringify(tarText(header.name))}, which leads out of it`,
    );
  }
  const name = type === "directory" ? `${plain}/` : plain;
  if (type === "directory" || type === "file") {
    return isExcluded(name) ? undefined : tarHeader({ type, name, mode, mtime, size });
  }
  if (type === "symlink") {
    return isExcluded(name) ? undefined : tarHeader({ type, name, linkName: header.linkName, mode, mtime, size: 0 });
  }
  return undefined; // nothing that a buildlet packs
}
