import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { Blobs } from "../blobs/blobs.ts";
import { coordinatorId, minutes, personId, plus, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { coordinatorStarted } from "../store/coordinators.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { findTransfer, TRANSFER_BLOBS, transferBegan, transferKept } from "../store/transfers.ts";
import { EXPIRE_EVERY, ExpiredTransfers } from "./transfers.ts";

test("what has expired goes within minutes, and what nobody knows of; what is in use or arrives stays", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-expired-"));
  const clock = new FakeClock();
  const blobs = await Blobs.open(folder, clock.now());
  const coordinator = coordinatorId("P000000001");
  await coordinatorStarted(sql, { id: coordinator, host: "test", pid: 1, version: "test" }, clock.now());
  const id = (digit: string) => digit.repeat(32);
  const kept = async (digit: string, left: number) => {
    const expiresAt = plus(clock.now(), minutes(left));
    const row = { id: id(digit), owner: personId("U000000001"), fileName: null, coordinator, expiresAt };
    expect(await transferBegan(sql, row, "one")).toBe(true);
    expect(await transferBegan(sql, row, "two")).toBe(false);
    await blobs.put(`${TRANSFER_BLOBS}/${id(digit)}`, Readable.from([Buffer.from("x")]));
    expect(await transferKept(sql, { id: id(digit), bytes: 1, expiresAt })).toBe(true);
  };
  await kept("a", 4);
  await kept("b", 6);
  await blobs.put(`${TRANSFER_BLOBS}/${id("c")}`, Readable.from([Buffer.from("left behind")]));
  await blobs.put("snapshots/s", Readable.from([Buffer.from("not ours")]));
  const left = async () => (await blobs.list(TRANSFER_BLOBS)).map(({ key }) => key.slice(-1)).sort();

  await using _ = new ExpiredTransfers({ sql, clock, log: quiet, blobs });
  await clock.advance(EXPIRE_EVERY);
  await expect.poll(left).toEqual(["b"]);
  expect([await findTransfer(sql, id("a")), (await findTransfer(sql, id("b")))?.bytes]).toEqual([undefined, 1]);
  await clock.advance(EXPIRE_EVERY);
  await clock.advance(seconds(1));
  await expect.poll(left).toEqual([]);
  expect(await blobs.stat("snapshots/s")).toBeDefined();
  await rm(folder, { recursive: true });
});
