import { expect, test } from "vitest";
import { checkFarm } from "./check.ts";
import { matches } from "./globs.ts";
import type { BuilderInput, Policy } from "./input.ts";
import { buildsAtAll, buildsPostSubmit, goPolicy, openPolicy } from "./policy.ts";

const names = ["go", "exp", "net", "pkgsite", "website"];
const repos = names.map((name) => ({ name, url: "." }));

function farm(policy: Policy, builders: readonly Partial<BuilderInput>[]) {
  return checkFarm({
    policy,
    repos,
    hosts: [{ hostType: "host-linux-amd64-x" }],
    builders: builders.map((b, i) => ({ name: `linux-amd64-${i}`, host: "host-linux-amd64-x", steps: ["x"], ...b })),
  });
}

test("[coordinator 58] a tryOnly builder is never post-submit", () => {
  for (const policy of [goPolicy, openPolicy]) {
    const config = farm(policy, [{ tryOnly: true, builds: () => true }]);
    const asked = config.builders.map((b) => [
      buildsPostSubmit(config, b, "go", "master"),
      buildsAtAll(config, b, "go", "master"),
    ]);
    expect(asked).toEqual([[false, true]]);
  }
});

test("[coordinator 58] no builder builds repo exp on a release branch", () => {
  const config = farm(goPolicy, [{}, { builds: () => true }, { repos: "exp" }, { name: "windows-386-x" }]);
  const asked = (branch: string) => config.builders.map((b) => buildsPostSubmit(config, b, "exp", branch));
  expect([asked("release-branch.go1.22"), asked("master")]).toEqual([
    [false, false, false, false],
    [false, true, true, false],
  ]);
});

test("goPolicy refuses old release branches, early pkgsite, and dev.boringcrypto but on two platforms", () => {
  const config = farm(goPolicy, [{ name: "linux-amd64" }, { name: "windows-386-2016" }, { name: "linux-arm64" }]);
  const asked = (repo: string, branch: string) => config.builders.map((b) => buildsAtAll(config, b, repo, branch));
  expect([
    asked("go", "release-branch.go1.10"),
    asked("go", "release-branch.go1.11"),
    asked("pkgsite", "release-branch.go1.22"),
    asked("pkgsite", "release-branch.go1.23"),
    asked("go", "dev.boringcrypto.go1.18"),
    asked("website", "master"),
  ]).toEqual([
    [false, false, false],
    [true, true, true],
    [false, false, false],
    [true, true, true],
    [true, true, false],
    [false, false, false],
  ]);
});

test("a builder's repos, branches and function must all agree", () => {
  const config = farm(openPolicy, [
    { repos: ["go", "n*"], branches: ["main", "release/*"], builds: (repo) => repo !== "net" },
  ]);
  const [builder] = config.builders;
  const asked = ["go main", "go release/1", "go release/1/x", "go wip", "net main", "exp main"].map((q) => {
    const [repo = "", branch = ""] = q.split(" ");
    return builder && buildsAtAll(config, builder, repo, branch);
  });
  expect(asked).toEqual([true, true, false, false, false, false]);
});

test("matches() knows *, **, ? and !, and takes everything else literally", () => {
  const asked = (patterns: string[], ...given: string[]) => given.filter((name) => matches(patterns, name));
  expect([
    asked(["*"], "main", "a/b"),
    asked(["**", "!wip/**"], "main", "a/b", "wip/x"),
    asked(["v?.x"], "v1.x", "v1zx", "v12.x"),
    asked(["a+b$"], "a+b$", "aab"),
  ]).toEqual([["main"], ["main", "a/b"], ["v1.x"], ["a+b$"]]);
});

test("minimumGoVersion refuses older release branches, on whatever policy, and no other branch", () => {
  for (const policy of [goPolicy, openPolicy]) {
    const config = farm(policy, [{ minimumGoVersion: "1.21" }]);
    const built = ["release-branch.go1.20", "release-branch.go1.21", "release-branch.go1.22-x", "master"].filter(
      (branch) => config.builders.some((b) => buildsPostSubmit(config, b, "net", branch)),
    );
    expect(built).toEqual(["release-branch.go1.21", "release-branch.go1.22-x", "master"]);
  }
});
