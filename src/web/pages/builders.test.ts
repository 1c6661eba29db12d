import { expect, test } from "vitest";
import { checkFarm } from "../../config/check.ts";
import { buildersJson } from "./builders.ts";

test("mode=json says which parts of a build a builder leaves out", () => {
  const common = { host: "host-linux-amd64", steps: ["make"] };
  const config = checkFarm({
    repos: [{ name: "tool", url: "/nowhere" }],
    hosts: [{ hostType: "host-linux-amd64", trust: "team" }],
    builders: [
      { ...common, name: "linux-amd64" },
      { ...common, name: "linux-amd64-made", stopAfterMake: true },
      { ...common, name: "linux-amd64-compiled", compileOnly: true },
      { ...common, name: "linux-amd64-fresh", skipSnapshot: true },
    ],
  });
  expect(buildersJson(config)).toMatchObject({
    Builders: {
      "linux-amd64": { SkipSnapshot: false, StopAfterMake: false, CompileOnly: false },
      "linux-amd64-made": { SkipSnapshot: false, StopAfterMake: true, CompileOnly: false },
      "linux-amd64-compiled": { SkipSnapshot: false, StopAfterMake: false, CompileOnly: true },
      "linux-amd64-fresh": { SkipSnapshot: true, StopAfterMake: false, CompileOnly: false },
    },
  });
});
