import { expect, test } from "vitest";
import { every } from "./every.ts";
import { seconds } from "./ids.ts";
import { FakeClock } from "./testing/fake-clock.ts";

test("every() looks after each span, goes on after a look that failed, and ends when it is stopped", async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const warned: unknown[] = [];
  const log = {
    debug() {},
    info() {},
    error() {},
    warn: (fields: object, text: string) => warned.push([fields, text]),
  };
  const looked: number[] = [];
  const look = async () => {
    looked.push(clock.monotonic());
    if (looked.length === 1) throw new Error("no answer");
  };
  const loop = every(seconds(10), look, "Could not look", { clock, log }, stop.signal);
  await clock.advance(seconds(25));
  stop.abort();
  await loop;
  expect([looked, clock.sleeping]).toEqual([[10_000, 20_000], 0]);
  expect(warned).toEqual([[{ error: "no answer" }, "Could not look"]]);
});
