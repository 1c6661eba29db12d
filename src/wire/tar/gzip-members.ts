/**
 * Bytes as gzip in several members, each of MEMBER bytes, which are packed on several threads at once, as fast as gzip can. Whoever reads
 * them must take more than one member, as gzip, Go and Node do.
 */
const MEMBER = 1024 * 1024;
/** Members in the making: one more than a machine's usual two cores keeps both busy. */
const AHEAD = 3;
/** The network is faster than any higher level. */
const LEVEL = 1;

/** Each piece has to hold only until the next one is asked for. */
export async function* gzipMembers(pieces: Iterable<Uint8Array>): AsyncGenerator<Buffer> {
  const { gzip } = await import("node:zlib");
  const zip = (member: Buffer) =>
    new Promise<Buffer>((resolve, reject) =>
      gzip(member, { level: LEVEL, chunkSize: MEMBER / 2 }, (error, out) => (error ? reject(error) : resolve(out))),
    );
  const inWork: Promise<Buffer>[] = [];
  try {
    for (const member of members(pieces)) {
      inWork.push(zip(member));
      if (inWork.length > AHEAD) yield (await inWork.shift()) ?? Buffer.alloc(0);
    }
    while (inWork.length > 0) yield (await inWork.shift()) ?? Buffer.alloc(0);
  } finally {
    await Promise.allSettled(inWork);
  }
}

/** The bytes in pieces of MEMBER, the last one shorter. */
function* members(pieces: Iterable<Uint8Array>): Generator<Buffer> {
  let member = Buffer.allocUnsafe(MEMBER);
  let filled = 0;
  for (const piece of pieces) {
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
