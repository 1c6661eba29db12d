import { expect, test } from "vitest";
import { BackgroundWork } from "./background-work.ts";

test("BackgroundWork runs once at a time, once more for all that was asked for meanwhile, and is done when nothing is left", async () => {
  const ends: PromiseWithResolvers<void>[] = [];
  await using work = new BackgroundWork(() => {
    const end = Promise.withResolvers<void>();
    ends.push(end);
    return end.promise;
  });
  await work.done();
  for (let i = 0; i < 3; i++) work.ask();
  expect(ends.length).toBe(1);
  let done = false;
  const all = work.done().then(() => {
    done = true;
  });
  ends[0]?.resolve();
  await new Promise(setImmediate);
  expect([ends.length, done]).toEqual([2, false]);
  ends[1]?.resolve();
  await all;
  work.ask();
  expect(ends.length).toBe(3);
  ends[2]?.resolve();
});

test("BackgroundWork that failed rejects done(), aborts `failed` and runs no more", async () => {
  let runs = 0;
  await using work = new BackgroundWork(async () => {
    runs++;
    throw new Error("the log is somebody else's");
  });
  work.ask();
  work.ask();
  await expect(work.done()).rejects.toThrow("the log is somebody else's");
  work.ask();
  await expect(work.done()).rejects.toThrow("the log is somebody else's");
  expect([runs, work.failed.reason]).toEqual([1, new Error("the log is somebody else's")]);
});
