import { expect, test } from "vitest";
import { seconds } from "../../farm/ids.ts";
import { afterBuild, CHECK_LIMIT, nextCheck, nextStep, type Situation } from "./session-mode.ts";

const original: Situation = {
  mode: "idle",
  agent: "original",
  checkAt: 1000,
  holdsUntil: 0,
  digest: "",
  served: "new",
  sentFor: undefined,
};
const ours: Situation = { ...original, agent: "barnraiser", checkAt: undefined, digest: "new" };

test("nextStep() checks originals that are due, and renews our own that are idle and outdated, once for each program", () => {
  const old: Situation = { ...ours, digest: "old" };
  expect([
    nextStep(original, 999),
    nextStep(original, 1000),
    nextStep({ ...original, mode: "busy" }, 1000),
    nextStep({ ...original, mode: "leaving" }, 1000),
    nextStep({ ...original, checkAt: undefined }, 1000), // under way
    nextStep(ours, 1000),
    nextStep(old, 0),
    nextStep({ ...old, holdsUntil: 1 }, 0), // it may be given back what it runs
    nextStep({ ...old, mode: "busy" }, 0),
    nextStep({ ...old, sentFor: "new" }, 0),
    nextStep({ ...old, sentFor: "older" }, 0),
    nextStep({ ...old, served: undefined }, 0),
    nextStep({ ...old, digest: "" }, 0),
  ]).toEqual([
    "none",
    "check",
    "check",
    "none",
    "none",
    "none",
    "renew",
    "none",
    "none",
    "none",
    "renew",
    "none",
    "none",
  ]);
});

test("afterBuild() keeps a clean machine of our own, halts the original, and drops what is broken", () => {
  expect([
    afterBuild(ours, "clean"),
    afterBuild({ ...ours, digest: "old" }, "clean"),
    afterBuild(original, "clean"),
    afterBuild(ours, "broken"),
    afterBuild(original, "broken"),
  ]).toEqual(["idle", "renew", "halt", "broken", "broken"]);
});

test("[coordinator 65] nextCheck() leaves an idle machine unasked for 10 to 14 s, so that with the limit it is out in 35 s", () => {
  expect([nextCheck("idle", 0, 0), nextCheck("idle", 0, 1), nextCheck("busy", 0, 0.5)]).toEqual([
    10_000, 14_000, 10_000,
  ]);
  expect(nextCheck("idle", 0, 1) + CHECK_LIMIT).toBeLessThan(seconds(35));
});
