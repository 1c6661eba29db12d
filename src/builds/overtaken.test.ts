import { expect, test } from "vitest";
import type { Superseded } from "../farm/build.ts";
import { buildId } from "../farm/ids.ts";
import { toSkip } from "./overtaken.ts";

const waiting = (...builders: string[]) =>
  builders.map((builder, i) => ({ id: buildId(i), builder, hostType: builder === "far" ? "other" : "here" }));

function skipped(policy: Superseded, spare: number, ...builders: string[]): number[] {
  const machines = new Map([["here", spare]]);
  return toSkip(waiting(...builders), (builder) => (builder === "every" ? "every" : policy), machines).map((b) => b.id);
}

test("every skips nothing, newest everything that was overtaken", () => {
  expect([skipped("newest", 9, "a", "every", "a"), skipped("every", 0, "a", "a")]).toEqual([[0, 2], []]);
});

test("batch keeps as many, newest first, as machines are free, whichever builder they are of", () => {
  expect([skipped("batch", 2, "a", "b", "a", "far"), skipped("batch", -3, "a", "b")]).toEqual([
    [2, 3],
    [0, 1],
  ]);
});
