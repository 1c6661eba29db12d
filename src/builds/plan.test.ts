import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { plan } from "./plan.ts";

const host = { hostType: "host-linux-amd64-x", env: { H: "1", BOTH: "host" } };

function farm(...builders: object[]) {
  return checkFarm({
    repos: [{ name: "app", url: "." }],
    hosts: [host],
    builders: builders.map((b, i) => ({ name: `linux-amd64-${i}`, host: host.hostType, steps: ["make"], ...b })),
  });
}

test("plan() gives the whole recipe, environment in the order name, host, builder", () => {
  const config = farm({ env: { BOTH: "builder" }, steps: [{ command: "make", env: { S: "1" }, timeLimit: "1m" }] });
  expect(plan(config, "app", "main")).toEqual([
    {
      builder: "linux-amd64-0",
      hostType: "host-linux-amd64-x",
      env: ["GO_BUILDER_NAME=linux-amd64-0", "H=1", "BOTH=host", "BOTH=builder"],
      sourceDir: "src",
      steps: [{ name: "make", command: ["sh", "-ec", "make"], dir: "", env: ["S=1"], path: [], timeLimitMs: 60_000 }],
    },
  ]);
});

test("plan() asks those builders that build the branch, and none that is tryOnly", () => {
  const config = farm(
    {},
    { branches: "release/*" },
    { tryOnly: true },
    { builds: (_repo: string, branch: string) => branch === "main" },
  );
  const names = (branch: string) => plan(config, "app", branch).map((r) => r.builder.at(-1));
  expect([names("main"), names("release/1")]).toEqual([
    ["0", "3"],
    ["0", "1"],
  ]);
});

test("plan() places a program with a separator below the step's folder", () => {
  const commands = ["./make.bash", "go", "/bin/true", "tools/x", "../x", "../../x", "..\\x", "C:\\x.exe"];
  const config = farm({ steps: commands.map((c) => ({ command: [c, "-v"], dir: "a/b" })) });
  const programs = plan(config, "app", "main")[0]?.steps.map((s) => s.command.join(" "));
  expect(programs).toEqual([
    "src/a/b/make.bash -v", "go -v", "/bin/true -v", "src/a/b/tools/x -v", "src/a/x -v", "src/x -v", "src/a/x -v", "C:\\x.exe -v",
  ]); // biome-ignore format: pairs
});
