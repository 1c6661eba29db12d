import { expect, test } from "vitest";
import { ms, seconds } from "./ids.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { Wake } from "./wake.ts";

function sleeper(gather = ms(0)) {
  const clock = new FakeClock();
  const stop = new AbortController();
  const wake = new Wake(clock, stop.signal);
  const woken: number[] = [];
  const sleep = () => wake.sleep(seconds(10), gather).then(() => woken.push(clock.monotonic()));
  return { clock, stop, wake, woken, sleep };
}

test("it sleeps for the whole span, or until it is called", async () => {
  const { clock, wake, woken, sleep } = sleeper();
  void sleep();
  await clock.advance(seconds(10));
  const called = sleep();
  await clock.advance(seconds(3));
  wake.call();
  await called;
  expect([woken, clock.sleeping]).toEqual([[10_000, 13_000], 0]);
});

test("a call while the loop is at work ends the next sleep, and only that one", async () => {
  const { clock, wake, woken, sleep } = sleeper();
  wake.call();
  wake.call();
  await sleep();
  void sleep();
  await clock.advance(seconds(10));
  expect(woken).toEqual([0, 10_000]);
});

test("calls that come close together are one", async () => {
  const { clock, wake, woken, sleep } = sleeper(ms(200));
  void sleep();
  wake.call();
  await clock.advance(ms(0));
  wake.call();
  await clock.advance(ms(200));
  void sleep();
  await clock.advance(seconds(11));
  expect(woken).toEqual([200, 10_400]);
});

test("once stopped it does not sleep any more", async () => {
  const { stop, woken, sleep } = sleeper(ms(200));
  const asleep = sleep();
  stop.abort(new Error("stopped"));
  await asleep;
  await sleep();
  expect(woken).toEqual([0, 0]);
});
