/**
 * GET /tgz: a folder as tar.gz. The stream is several gzip members, each of 1 MiB of tar, which are made on several
 * threads at once; whoever reads it must take more than one member. Links are stored as links. Anything that cannot be
 * read ends the stream without its last chunk, so that nobody takes half an archive for a whole one.
 */
import { open, readlink } from "node:fs/promises";
import { tarEnd, tarHeader, tarPadding } from "../../wire/tar/tar-writer.ts";
import { type WalkEntry, walk } from "./walk.ts";

const MEMBER = 1024 * 1024;
/** Members in the making: one more than this machine's usual two cores keeps both busy. */
const AHEAD = 3;

/** The archive of `dir`, in order. Throws where the walk fails. */
export async function* pack(dir: string): AsyncGenerator<Buffer> {
  const { gzip } = await import("node:zlib");
  const zip = (member: Buffer) =>
    new Promise<Buffer>((resolve, reject) => gzip(member, (error, out) => (error ? reject(error) : resolve(out))));
  const inWork: Promise<Buffer>[] = [];
  try {
    for await (const member of members(dir)) {
      inWork.push(zip(member));
      if (inWork.length > AHEAD) yield (await inWork.shift()) ?? Buffer.alloc(0);
    }
    while (inWork.length > 0) yield (await inWork.shift()) ?? Buffer.alloc(0);
  } finally {
    await Promise.allSettled(inWork);
  }
}

/** The tar in pieces of MEMBER bytes, the last one shorter. */
async function* members(dir: string): AsyncGenerator<Buffer> {
  let member = Buffer.allocUnsafe(MEMBER);
  let filled = 0;
  for await (const piece of tar(dir)) {
    for (let at = 0; at < piece.length; ) {
      const take = Math.min(MEMBER - filled, piece.length - at);
      member.set(piece.subarray(at, at + take), filled);
      filled += take;
      at += take;
      if (filled === MEMBER) {
        yield member;
        member = Buffer.allocUnsafe(MEMBER);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield member.subarray(0, filled);
}

async function* tar(dir: string): AsyncGenerator<Buffer> {
  for await (const entry of walk(dir, () => true)) {
    if (entry.name !== "") yield* tarEntry(entry);
  }
  yield tarEnd();
}

async function* tarEntry({ name, path, stats }: WalkEntry): AsyncGenerator<Buffer> {
  const common = { mode: stats.mode, mtime: stats.mtimeMs / 1000, uid: stats.uid, gid: stats.gid };
  if (stats.isDirectory()) yield tarHeader({ ...common, type: "directory", name: `${name}/`, size: 0 });
  else if (stats.isSymbolicLink()) {
    yield tarHeader({ ...common, type: "symlink", name, linkName: await readlink(path, "latin1"), size: 0 });
  } else if (stats.isFile()) {
    yield tarHeader({ ...common, type: "file", name, size: stats.size });
    if (stats.size === 0) return;
    const file = await open(path, "r");
    try {
      const buffer = Buffer.allocUnsafe(Math.min(256 * 1024, stats.size));
      for (let left = stats.size; left > 0; ) {
        const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, left), null);
        if (bytesRead === 0) throw new Error(`Cannot pack: a file of ${stats.size} bytes has become shorter`);
        left -= bytesRead;
        yield buffer.subarray(0, bytesRead); // copied by the caller before it asks for more
      }
    } finally {
      await file.close();
    }
    yield tarPadding(stats.size);
  }
  // Sockets, FIFOs and devices are nothing that another machine could use.
}
