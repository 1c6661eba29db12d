import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import type { BuilderInput } from "../config/input.ts";
import { recipeDigest } from "../store/builds.ts";
import { plan } from "./plan.ts";

const TESTS = { list: "./list", run: "./run" };

function recipe(more: Partial<BuilderInput>) {
  const builder = { name: "linux-amd64", host: "host-linux-amd64-x", steps: ["make"], ...more };
  const farm = checkFarm({
    repos: [{ name: "tool", url: "/tool" }],
    hosts: [{ hostType: "host-linux-amd64-x" }],
    builders: [builder],
  });
  const [planned] = plan(farm, "tool", "main");
  if (!planned) throw new Error("nothing was planned");
  return planned;
}

test("recipeDigest() of a builder without tests is what it was before there were any", () => {
  expect(recipe({})).toEqual({
    builder: "linux-amd64",
    hostType: "host-linux-amd64-x",
    env: ["GO_BUILDER_NAME=linux-amd64"],
    sourceDir: "src",
    steps: [{ name: "make", command: ["sh", "-ec", "make"], dir: "", env: [], path: [], timeLimitMs: 3_600_000 }],
  });
  expect(recipeDigest(recipe({})).digest).toBe("a777d9a3109a51709fc5bc3c84d4ff1fafbae567b4e2e989b7bf7d199e61a469");
});

test("plan() fills in tests, their helpers and the snapshot; programs are placed below the source tree", () => {
  const run = { command: ["./run"], dir: "sub" };
  const { tests, snapshot, env } = recipe({ tests: { list: ["a"], run }, helpers: 2, compileOnly: true });
  expect({ tests, snapshot, env }).toEqual({
    tests: {
      list: { names: ["a"] },
      run: { name: "./run", command: ["src/sub/run"], dir: "sub", env: [], path: [], timeLimitMs: 1_200_000 },
      names: "args",
      results: "exit",
      groupTargetMs: 10_000,
      unknownMs: 3_000,
      helpers: 2,
      tryHelpers: 2,
      keepGoing: true,
    },
    snapshot: { exclude: [], limitBytes: 2 * 1024 ** 3, keepMs: 7 * 86_400_000 },
    env: ["GO_BUILDER_NAME=linux-amd64", "BARNRAISER_COMPILE_ONLY=1"],
  });
});

test("plan() leaves tests and snapshot out after stopAfterMake; every part makes another recipe", () => {
  const stopped = recipe({ tests: TESTS, stopAfterMake: true });
  expect([stopped.tests, stopped.snapshot, stopped.stopAfterMake]).toEqual([undefined, undefined, true]);
  const parts = [
    {},
    { tests: TESTS },
    { tests: TESTS, skipSnapshot: true },
    { tests: TESTS, stopAfterMake: true },
    { tests: TESTS, compileOnly: true },
    { tests: TESTS, tryHelpers: 1 },
    { tests: { ...TESTS, keepGoing: false } },
    { tests: { ...TESTS, results: { junit: "a" } } },
    { tests: TESTS, snapshot: { exclude: "*.o" } },
  ];
  expect(new Set(parts.map((part) => recipeDigest(recipe(part)).digest)).size).toBe(parts.length);
});
