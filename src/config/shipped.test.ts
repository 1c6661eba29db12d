import { expect, test } from "vitest";
import example from "../../docs/farm.config.example.ts";
import own from "../../farm.config.ts";
import { checkFarm } from "./check.ts";

test("the example is a farm that works, and has every field that there is", () => {
  const farm = checkFarm(example);
  expect(farm.builders.map((b) => b.name)).toEqual([
    "linux-amd64",
    "linux-arm-release",
    "windows-amd64",
    "linux-amd64-lib",
    "linux-amd64-suite",
    "linux-amd64-with-lib",
    "linux-amd64-npm",
    "linux-amd64-make",
  ]);
  const used = new Set<string>();
  JSON.stringify(example, (key, value) => {
    used.add(key);
    return value;
  });
  const fields =
    "repos hosts builders policy name url branches releaseBranches poll depth history webhook token tokenUser hostType hostArch expect env owners contact " +
    "notes pool trust sharedKey hermetic host builds steps command dir path timeLimit knownIssues tryOnly skipSnapshot helpers " +
    "tests list run names results junit groupTarget unknown keepGoing snapshot exclude limit keep stopAfterMake compileOnly tryHelpers " +
    "buildTimeLimit silenceLimit uploadTimeLimit " +
    "against builtBy sources commit file text showCommand makesOther baseEnv needs flakyNet minimumGoVersion only alone argsOn args dialect foldersWith remove";
  expect(fields.split(" ").filter((field) => !used.has(field))).toEqual([]);
});

test("the farm of npm start builds this checkout on this computer", () => {
  const farm = checkFarm(own);
  expect([farm.repos.map((r) => r.url), farm.hosts.map((h) => h.pool), farm.builders.length]).toEqual([
    ["."],
    ["local"],
    1,
  ]);
});
