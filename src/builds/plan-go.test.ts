import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { defineFarm, type GoTreeOptions, goTree } from "../config/farm-config.ts";
import { goPolicy } from "../config/policy.ts";
import type { Recipe } from "../farm/build.ts";
import { plan } from "./plan.ts";

const DL = "https://go.dev/dl/go1.24.6.linux-amd64.tar.gz";

function recipe(options: Partial<GoTreeOptions> & { name: string }, branch = "master"): Recipe {
  const [goos, goarch] = options.name.split("-");
  const host = `host-${goos}-${goarch}-x`;
  const farm = defineFarm({
    policy: goPolicy,
    repos: [
      { name: "go", url: "." },
      { name: "net", url: "." },
    ],
    hosts: [{ hostType: host, env: { GO_TEST_TIMEOUT_SCALE: "2", H: "1" } }],
    builders: [goTree({ host, bootstrap: { url: DL }, ...options })],
  });
  expect(plan(checkFarm(farm), "net", branch)).toEqual([]);
  const [planned] = plan(checkFarm(farm), "go", branch);
  if (!planned) throw new Error("nothing was planned");
  return planned;
}

test("goTree() fills in all of a builder of Go's own tree", () => {
  expect(recipe({ name: "linux-amd64", env: { B: "1" } })).toEqual({
    builder: "linux-amd64",
    hostType: "host-linux-amd64-x",
    env: ["GO_BUILDER_NAME=linux-amd64", "GO_TEST_TIMEOUT_SCALE=2", "H=1", "B=1"],
    sourceDir: "go",
    sources: [
      { dir: "go", file: "VERSION", text: "devel $COMMIT", name: "write_version_tar" },
      { dir: "go", commit: "own", name: "write_go_src_tar" },
      { dir: "go1.4", url: DL, name: "write_go_bootstrap_tar" },
    ],
    steps: [
      {
        name: "make",
        command: ["go/src/make.bash", "-force"],
        dir: "$WORKDIR/go/src",
        env: ["GOBIN=", "GOROOT_BOOTSTRAP="],
        path: ["$WORKDIR/go1.4/go/bin", "$PATH"],
        timeLimitMs: 3_600_000,
        showCommand: true,
      },
    ],
    tests: {
      list: {
        command: {
          name: "discovering_tests",
          command: ["go/bin/go", "tool", "dist", "test", "--no-rebuild", "--list"],
          dir: "$WORKDIR",
          env: ["GOROOT=$WORKDIR/go"],
          path: [],
          timeLimitMs: 1_200_000,
        },
      },
      run: {
        name: "run_tests_multi",
        command: ["go/bin/go", "tool", "dist", "test", "--no-rebuild", "--banner=##### "],
        dir: "$WORKDIR",
        env: ["GOROOT=$WORKDIR/go", "GOPATH=$WORKDIR/gopath", "GOPROXY=off"],
        path: ["$WORKDIR/go/bin", "$PATH"],
        timeLimitMs: 2_400_000,
      },
      alone: ["**", "!go_test:**"],
      dialect: "go-dist",
      names: "args",
      results: "exit",
      groupTargetMs: 10_000,
      unknownMs: 3_000,
      helpers: 0,
      tryHelpers: 0,
      keepGoing: false,
    },
    snapshot: { exclude: [], remove: ["doc/gopher", "pkg/bootstrap"], limitBytes: 2 * 2 ** 30, keepMs: 604_800_000 },
  });
});

test("goTree() goes by the parts of the builder's name: system, race, longtest", () => {
  const race = recipe(
    { name: "linux-amd64-longtest-race", flakyNet: true, makeScriptArgs: ["-v"] },
    "release-branch.go1.22",
  );
  expect(race.env.slice(0, 4)).toEqual([
    "GO_BUILDER_NAME=linux-amd64-longtest-race", "GO_BUILDER_FLAKY_NET=1", "GO_TEST_SHORT=0", "GO_TEST_TIMEOUT_SCALE=2",
  ]); // biome-ignore format: one glance
  expect(race.steps.map((step) => step.command.join(" "))).toEqual([
    "go/src/make.bash -v -force",
    "go/bin/go install -race std",
  ]);
  expect(race.tests?.run.command.slice(4)).toEqual(["--no-rebuild", "--banner=##### ", "--race", "-k"]);
  expect(race.tests?.run.env.slice(2)).toEqual(["GOPROXY=https://proxy.golang.org", "GO_DISABLE_OUTBOUND_NETWORK=0"]);

  const windows = recipe({ name: "windows-amd64", compileOnly: true, racePackages: ["net"], privateGoProxy: true });
  expect(windows.steps.map((step) => [...step.command, step.path[0]].join(" ").trim())).toEqual([
    "go/src/make.bat -force $WORKDIR\\go1.4\\go\\bin",
    "go/bin/go install -race net",
  ]);
  expect(windows.tests?.run.command.at(-1)).toBe("--compile-only");
  expect(windows.tests?.run.env).toEqual(["GOROOT=$WORKDIR\\go", "GOPATH=$WORKDIR\\gopath"]);
  expect(recipe({ name: "plan9-386" }).steps[0]?.command[0]).toBe("go/src/make.rc");
});

test("goTree() takes the bootstrap from where it is said to be", () => {
  const of = (bootstrap: GoTreeOptions["bootstrap"]) => {
    const { sources, steps } = recipe({ name: "linux-amd64", bootstrap });
    return [sources?.length, steps[0]?.env, steps[0]?.path];
  };
  expect([of("none"), of({ path: "/usr/lib/go" }), of({ url: "https://x.example/b.tgz" }), of({ url: "https://x.example/b.tgz", nested: true })]).toEqual([
    [2, ["GOBIN="], []],
    [2, ["GOBIN=", "GOROOT_BOOTSTRAP=/usr/lib/go"], []],
    [3, ["GOBIN=", "GOROOT_BOOTSTRAP=$WORKDIR/go1.4"], []],
    [3, ["GOBIN=", "GOROOT_BOOTSTRAP="], ["$WORKDIR/go1.4/go/bin", "$PATH"]],
  ]); // biome-ignore format: a table
});

test("[coordinator 72] goTree() with skipSnapshot has none; stopAfterMake ends after make", () => {
  expect(recipe({ name: "linux-amd64", skipSnapshot: true }).snapshot).toBeUndefined();
  const made = recipe({ name: "linux-amd64", stopAfterMake: true });
  expect([made.stopAfterMake, made.tests]).toEqual([true, undefined]);
});
