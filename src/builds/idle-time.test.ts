import { expect, test } from "vitest";
import { epochMs, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { IdleTime, waitLimit, waitText } from "./idle-time.ts";

test.each([
  // role, idle, again, left; limit
  ["main", 0, null, 60, 5],
  ["main", 3600, null, 60, 5],
  ["main", 3600, null, 2, 2],
  ["main", 3600, 3, 60, 3],
  ["helper", 0, null, 60, 5],
  ["helper", 2, null, 60, 3],
  ["helper", 2, 1, 60, 1],
  ["helper", 2, null, 0.5, 0.5],
  ["helper", 5, null, 60, undefined],
  ["helper", 5, 5.001, 60, undefined],
  ["helper", 5, 5, 60, 5],
  ["helper", 7, 2, 60, 2],
  ["helper", 7, 2, 1, 1],
  ["helper", 7, -1, 60, 0.001],
] as const)(
  "waitLimit() of a %s that has been idle for %f s, may have a test in %o s and whose build has %f s left: %o s",
  (role, idle, again, left, limit) => {
    const now = epochMs(1_000_000);
    const times = {
      idle: seconds(idle),
      again: again === null ? null : epochMs(now + seconds(again)),
      timeLeft: seconds(left),
    };
    expect(waitLimit(role, times, now)).toBe(limit === undefined ? undefined : seconds(limit));
  },
);

test("IdleTime begins when it is first asked; the log tells of 10 s and of each time that it has doubled, until it ends", async () => {
  const clock = new FakeClock();
  const idle = new IdleTime(clock);
  await clock.advance(seconds(60));
  const told: (number | undefined)[] = [];
  const tellAfter = async (span: number) => {
    await clock.advance(seconds(span));
    told.push(idle.dueToTell());
  };
  for (const span of [0, 9, 1, 9, 1, 20]) await tellAfter(span);
  idle.end();
  for (const span of [30, 9, 1]) await tellAfter(span);
  const [ten, twenty, forty] = [10, 20, 40].map(seconds);
  expect(told).toEqual([undefined, undefined, ten, undefined, twenty, forty, undefined, undefined, ten]);
  expect(idle.soFar()).toBe(seconds(10));
});

test("a machine that has nothing to do says what it waits for: what others run, what others should run, and how long at most", () => {
  const now = epochMs(1_000_000);
  const kept = (count: number) => ({ name: "t 7", until: epochMs(1_041_000), count });
  expect([
    waitText({ running: 2, kept: null }, now),
    waitText({ running: 1, kept: kept(3) }, now),
    waitText({ running: 0, kept: kept(1) }, now),
    waitText({ running: 0, kept: null }, now),
  ]).toEqual([
    "for 2 tests on other machines",
    'for 1 test on other machines, and up to 41 s for another machine to run "t 7" and 2 more once more',
    'up to 41 s for another machine to run "t 7" once more',
    "for other machines",
  ]);
});
