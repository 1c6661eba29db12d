import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { seconds } from "./ids.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { unless, within } from "./within.ts";

/** A signal like those that calls get: it lasts as long as a machine is connected. */
const lasting = () => new AbortController().signal;

test("within() and unless() leave nobody listening, however the work ends: signals of machines live for weeks", async () => {
  const given: AbortSignal[] = [];
  const work = (how: () => Promise<string>) => (signal: AbortSignal) => {
    given.push(signal);
    return how();
  };
  const gone = lasting();
  await within(
    new FakeClock(),
    seconds(1),
    [gone, lasting()],
    "it",
    work(async () => "done"),
  );
  await expect(
    within(
      new FakeClock(),
      seconds(1),
      [gone],
      "it",
      work(() => Promise.reject(new Error("no"))),
    ),
  ).rejects.toThrow("no");
  await unless(
    gone,
    work(async () => "done"),
  );
  expect([gone, ...given].map((signal) => getEventListeners(signal, "abort").length)).toEqual([0, 0, 0, 0]);
});

test("within() rejects at its limit, and unless() when its signal aborts, whether or not the work hears it", async () => {
  const clock = new FakeClock();
  const late = expect(within(clock, seconds(2), [], "waiting", () => new Promise(() => {}))).rejects.toThrow(
    "waiting took longer than 2.0 s",
  );
  const told = new AbortController();
  const left = unless(told.signal, () => new Promise(() => {}));
  await clock.advance(seconds(2));
  await late;
  told.abort(new Error("enough"));
  await expect(left).rejects.toThrow("enough");
});
