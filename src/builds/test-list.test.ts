import { expect, test } from "vitest";
import type { TestsSpec } from "../farm/build.ts";
import { type MachineId, ms, type SessionId } from "../farm/ids.ts";
import { systemClock } from "../store/system-clock.ts";
import { testRecipe } from "../store/testing/farm.ts";
import { isAlone, listTests } from "./test-list.ts";
import { FakeMachine } from "./testing/fake-machine.ts";
import { testsSpec } from "./testing/tests.ts";

async function listed(spec: TestsSpec, files: readonly string[] = []) {
  const machine = new FakeMachine({ id: "s1" as SessionId, machineId: 1 as MachineId, name: "m" });
  for (const file of files) machine.files.set(`src/${file}`, Buffer.alloc(0));
  const job = {
    ...{ recipe: testRecipe("linux-amd64", "linux", ["make"]), spec, machine, id: "a1.2" },
    ...{ writer: { write: async () => {} } as never, before: (async function* () {})() },
    limit: { endsAt: systemClock.monotonic() + 60_000, limit: ms(60_000) },
  };
  return listTests(systemClock, job, new AbortController().signal);
}

test("foldersWith names every folder that has the file, but no one else's, and . for the tree itself", async () => {
  const spec = { ...testsSpec([]), list: { foldersWith: "go.mod" } };
  const files = [
    ...["go.mod", "b/go.mod", "a/c/go.mod", "a/go.mod.txt", "a/c/x.go"],
    ...["testdata/go.mod", "a/vendor/x/go.mod", ".git/go.mod", "a/_old/go.mod", "node_modules/go.mod"],
  ];
  expect(await listed(spec, files)).toEqual({ names: [".", "a/c", "b"], doubled: 0 });
  expect(await listed(spec)).toBe('no folder has a file "go.mod"');
});

test("only leaves out what it does not match, and says so when nothing is left", async () => {
  const spec = testsSpec(["net/http", "net", "cmd/go"]);
  expect(await listed({ ...spec, only: ["**", "!net/**"] })).toMatchObject({ names: ["net", "cmd/go"] });
  expect(await listed({ ...spec, only: ["nothing"] })).toBe("none of the tests that were listed is to be run");
});

test("in the dialect of Go's own tests patterns mean the older names", async () => {
  const spec = { ...testsSpec(["net/http", "cmd/api:check", "go_test:net"]), dialect: "go-dist" } as const;
  expect(await listed({ ...spec, only: ["**", "!api"] })).toMatchObject({ names: ["net/http", "go_test:net"] });
  const alone = { ...spec, alone: ["**", "!go_test:**"] };
  expect(["net/http", "cmd/api:check", "go_test:net"].map((name) => isAlone(alone, name))).toEqual([
    false,
    true,
    false,
  ]);
});

test("isAlone() of names of folders, and of what alone matches", () => {
  const spec = testsSpec([]);
  expect(isAlone(spec, "a")).toBe(false);
  expect(isAlone({ ...spec, names: "dir" }, "a")).toBe(true);
  expect([isAlone({ ...spec, alone: ["slow*"] }, "slow1"), isAlone({ ...spec, alone: ["slow*"] }, "b")]).toEqual([
    true,
    false,
  ]);
});
