import { expect, test } from "vitest";
import { LEAVE_FREE } from "../../builds/snapshots.ts";
import { personId } from "../../farm/ids.ts";
import { MOST_KEPT, Room, type Share } from "./room.ts";

const MIB = 1024 ** 2;
const ALICE = personId("U0000000aa");
const BOB = personId("U0000000bb");

/** A disk that has `left` bytes above what is to stay free, and people with nothing kept yet. */
function small(left: number, limit = 1024 * MIB, keptByAll = 0) {
  const disk = { free: LEAVE_FREE + left, looks: 0 };
  const room = new Room({
    free: async () => {
      disk.looks++;
      await new Promise((turn) => setImmediate(turn));
      return disk.free;
    },
    kept: async () => keptByAll,
    limitBytes: () => limit,
    perPerson: () => 20,
  });
  return { disk, room };
}

async function outcomes(admitted: readonly Promise<void>[]): Promise<readonly [number, readonly string[]]> {
  const all = await Promise.allSettled(admitted);
  const refused = all.flatMap((one) => (one.status === "rejected" ? [(one.reason as Error).message] : []));
  return [all.length - refused.length, refused];
}

test("seventeen files that arrive at once on a disk with room for four are told of four, and what is written counts no longer", async () => {
  const { disk, room } = small(4 * 64 * MIB);
  const shares: Share[] = [];
  for (let i = 0; i < 17; i++) shares.push(await room.begin(personId(`U00000000${i % 2}`)));
  const [admitted, refused] = await outcomes(shares.map((share) => room.admit(share, 64 * MIB)));
  expect([admitted, refused.length]).toEqual([4, 13]);
  expect(refused[0]).toBe(
    "The coordinator's disk has only 1.3 GiB left, 256 MiB of it for files on their way, and leaves 1 GiB free; try again later",
  );
  const [first, second, third] = shares as [Share, Share, Share];
  // Written: the disk has it now, and there is no more room than before.
  room.wrote(first, 64 * MIB);
  disk.free -= 64 * MIB;
  await expect(room.admit(first, 1)).rejects.toThrow("disk");
  // Given up: there is.
  room.end(second);
  await room.admit(third, 64 * MIB);
  await expect(room.admit(third, 1)).rejects.toThrow("disk");
});

test("a look is good for many pieces, and what is let past to a file that has ended meanwhile is given back", async () => {
  const { disk, room } = small(128 * MIB);
  const share = await room.begin(ALICE);
  for (let i = 0; i < 64; i++) await room.admit(share, MIB);
  expect(disk.looks).toBe(1);
  const late = room.admit(share, 64 * MIB);
  room.end(share);
  await late;
  await room.admit(await room.begin(BOB), 128 * MIB);
});

test("a person has so many files at a time and so many bytes, those that are kept included; others have theirs", async () => {
  const { room } = small(1e15, 10 * MIB, 5 * MIB);
  const shares: Share[] = [];
  for (let i = 0; i < 32; i++) shares.push(await room.begin(ALICE));
  await expect(room.begin(ALICE)).rejects.toMatchObject({
    code: "too-large",
    message: "Cannot take another file of yours: 32 are on their way, and 32 may be at a time; wait until one has come",
  });
  const [share] = shares as [Share];
  await room.admit(share, MOST_KEPT * 10 * MIB - 5 * MIB);
  await expect(room.admit(shares[1] as Share, 1)).rejects.toMatchObject({
    code: "too-large",
    message:
      "Cannot take more files of yours: 5 MiB are kept and 15 MiB on their way, of at most 20 MiB; what came is kept for ten minutes",
  });
  await room.admit(await room.begin(BOB), MIB);
  await room.keep(share, async () => true);
  room.end(share);
  await expect(room.admit(shares[1] as Share, 1)).rejects.toThrow("20 MiB are kept and 0 KiB on their way");
});

test("somebody who may have more instances may have more files on their way, one for each and some", async () => {
  const room = new Room({ free: async () => 1e15, kept: async () => 0, limitBytes: () => MIB, perPerson: () => 40 });
  for (let i = 0; i < 52; i++) await room.begin(ALICE);
  await expect(room.begin(ALICE)).rejects.toThrow("52 are on their way, and 52 may be at a time");
});

test.each(["the answer is older than the file", "the file is in the answer"])(
  "a file that becomes one that is kept while somebody asks what is, is counted once: %s",
  async (which) => {
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const late = Promise.withResolvers<void>();
    const database = { kept: 0 };
    let answerIsLate = false;
    const room = new Room({
      free: async () => 1e15,
      kept: async () => {
        const seen = database.kept;
        if (answerIsLate) await late.promise;
        return seen;
      },
      limitBytes: () => 10 * MIB,
      perPerson: () => 20,
    });
    const first = await room.begin(ALICE);
    await room.admit(first, 4 * MIB);
    answerIsLate = which === "the answer is older than the file";
    const keep = async () => {
      await room.keep(first, async () => {
        database.kept += 4 * MIB;
        if (!answerIsLate) await late.promise;
        return true;
      });
      room.end(first);
    };
    const shares: Share[] = [];
    const begin = async () => void shares.push(await room.begin(ALICE));
    const going: Promise<void>[] = [];
    for (const step of answerIsLate ? [begin, keep] : [keep, begin]) {
      going.push(step());
      await turn();
    }
    late.resolve();
    await Promise.all(going);
    await expect(room.admit(shares[0] as Share, 20 * MIB)).rejects.toThrow("4 MiB are kept and 0 KiB on their way");
  },
);
