import { expect, test } from "vitest";
import { durationText } from "./duration-text.ts";

test("durationText() at its seams", () => {
  const given = [-5, 0, 994, 995, 9_940, 59_400, 59_600, 72_000, 3_599_000, 3_600_000, 86_399_000, 273_600_000];
  const seen = [
    "0 ms",
    "0 ms",
    "994 ms",
    "1.0 s",
    "9.9 s",
    "59 s",
    "1m 00s",
    "1m 12s",
    "59m 59s",
    "1h 00m",
    "23h 59m",
    "3d 4h",
  ];
  expect(given.map(durationText)).toEqual(seen);
});
