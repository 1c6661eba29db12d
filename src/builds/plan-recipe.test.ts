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

test("plan() takes sources as given; steps, lists and runs are placed below the commit's own tree", () => {
  const planned = recipe({
    sources: [
      { dir: "go", file: "VERSION", text: "devel $COMMIT" },
      { dir: "go", commit: "own" },
      { dir: "go1.4", url: "https://example.org/go.tar.gz", name: "write_go_bootstrap_tar" },
    ],
    steps: [{ command: ["./make.bash", "-force"], dir: "src", showCommand: true }],
    tests: {
      list: { command: ["./go/bin/go", "list"], dir: "$WORKDIR" },
      run: { command: ["./go/bin/go", "test"], dir: "$WORKDIR" },
    },
  });
  expect([planned.sourceDir, planned.sources?.length, planned.steps[0]]).toEqual([
    "go",
    3,
    {
      name: "./make.bash -force", command: ["go/src/make.bash", "-force"], dir: "src", env: [], path: [], timeLimitMs: 3_600_000,
      showCommand: true,
    },
  ]); // biome-ignore format: one glance
  expect(planned.tests?.run).toMatchObject({ command: ["go/bin/go", "test"], dir: "$WORKDIR" });
  expect(recipeDigest(planned).body).toEqual(planned);
});

test("plan() lets the host's environment override the base, and the builder's both", () => {
  const more = { env: { B: "builder" }, baseEnv: { A: "base", B: "base" }, flakyNet: true, compileOnly: true };
  expect(recipe(more).env).toEqual([
    "GO_BUILDER_NAME=linux-amd64", "GO_BUILDER_FLAKY_NET=1", "BARNRAISER_COMPILE_ONLY=1", "A=base", "B=base", "B=builder",
  ]); // biome-ignore format: one glance
});

test("plan() adds arguments on the branches that they are for, and lengthens the limit of go-dist tests by GO_TEST_TIMEOUT_SCALE", () => {
  const run = { command: ["./run"], timeLimit: "20m" };
  const tests = { list: ["a"], run, argsOn: { branches: "ma*", args: ["-k"] }, alone: "b", only: ["**", "!c"] };
  const scaled = { env: { GO_TEST_TIMEOUT_SCALE: "3" } };
  const of = (planned: ReturnType<typeof recipe>) => [planned.tests?.run.command, planned.tests?.run.timeLimitMs];
  expect(of(recipe({ tests, ...scaled }))).toEqual([["src/run", "-k"], 1_200_000]);
  const dist = recipe({
    tests: { ...tests, argsOn: { branches: "rel*", args: ["-k"] }, dialect: "go-dist" },
    ...scaled,
  });
  expect(of(dist)).toEqual([["src/run"], 3_600_000]);
  expect(recipeDigest(dist).body).toEqual(dist);
});
