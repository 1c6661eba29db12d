import { expect, test } from "vitest";
import { type GridNow, nowHtml } from "./grid.ts";

test("only builders with a result are said to be green", () => {
  const green: GridNow = { status: "success", build: 1, commits: 1, why: "" };
  const sum = (states: readonly (GridNow | undefined)[]) =>
    /<span class=sum>([^<]*)/.exec(nowHtml(states, ["linux-amd64", "plan9-arm"]))?.[1];
  expect([sum([undefined, undefined]), sum([green, undefined]), sum([green, green])]).toEqual([
    "no builder has a result yet",
    "every builder with a result is green",
    "every builder is green",
  ]);
  expect(nowHtml([{ ...green, status: "failure" }, undefined], ["linux-amd64", "plan9-arm"])).toContain(
    "<bdi>linux-amd64</bdi> 1</a></span>",
  );
});
