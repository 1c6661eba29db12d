import { expect, test } from "vitest";
import { Beside } from "./beside.ts";

test("Beside runs one after the other, once for all that was asked for meanwhile, and is done when nothing is left", async () => {
  const ends: PromiseWithResolvers<void>[] = [];
  await using beside = new Beside(() => {
    const end = Promise.withResolvers<void>();
    ends.push(end);
    return end.promise;
  });
  await beside.done();
  for (let i = 0; i < 3; i++) beside.ask();
  expect(ends.length).toBe(1);
  let done = false;
  const all = beside.done().then(() => {
    done = true;
  });
  ends[0]?.resolve();
  await new Promise(setImmediate);
  expect([ends.length, done]).toEqual([2, false]);
  ends[1]?.resolve();
  await all;
  beside.ask();
  expect(ends.length).toBe(3);
  ends[2]?.resolve();
});

test("Beside that failed says so to whoever waits for it and to whoever does not, and does no more", async () => {
  let runs = 0;
  await using beside = new Beside(async () => {
    runs++;
    throw new Error("the log is somebody else's");
  });
  beside.ask();
  beside.ask();
  await expect(beside.done()).rejects.toThrow("the log is somebody else's");
  beside.ask();
  await expect(beside.done()).rejects.toThrow("the log is somebody else's");
  expect([runs, beside.failed.reason]).toEqual([1, new Error("the log is somebody else's")]);
});
