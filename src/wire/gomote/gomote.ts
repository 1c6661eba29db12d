/**
 * What a gomote and its service say to each other: gRPC over HTTP/2 on the coordinator's TLS port.
 *
 *   gomote.proto      protos.GomoteService, which the original `gomote` command speaks; 16 methods, fixed for good
 *   barnraiser.proto  barnraiser.Gomote, for our own command, and the details of a command that failed
 *   gen/              TypeScript of both, by `npm run generate`; committed, so that a build needs no generator
 *
 * An instance is named `USER-TYPE-N`: the part of its owner's email before the last `@`, what was asked for, and the lowest number that
 * was free. Names are used again. Lines of listings are those of the buildlet API (../buildlet-api/ls-line.ts) without their LF.
 *
 * A client of gRPC refuses a message beyond 4 MiB, so listings travel in batches.
 */

/** The original sends so many entries at once. */
const BATCH_ENTRIES = 100;
/** Well below what a client takes, since each entry has a few bytes around it. */
const BATCH_BYTES = 1 << 20;

/** The lowest number from 0 that no name in `taken` has: `alice-linux-amd64-0`, then `…-1`. */
export function instanceName(user: string, builderType: string, taken: ReadonlySet<string>): string {
  for (let n = 0; ; n++) {
    const name = `${user}-${builderType}-${n}`;
    if (!taken.has(name)) return name;
  }
}

/** The lines of GET /ls as entries. */
export function entriesOf(listing: string): string[] {
  return listing.split("\n").filter((line) => line !== "");
}

/** `entries` in their order, cut into messages that every client takes. A single entry is always below the limit: it is a path. */
export function* batchesOf(entries: readonly string[]): Generator<string[]> {
  let batch: string[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const size = Buffer.byteLength(entry) + 8;
    if (batch.length === BATCH_ENTRIES || (batch.length > 0 && bytes + size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(entry);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}
