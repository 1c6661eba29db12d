import { expect, test } from "vitest";
import { epochMs } from "../farm/ids.ts";
import { waitText } from "./work-tests.ts";

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
