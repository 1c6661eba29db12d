import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { attemptId, buildId, epochMs, logId, machineId, sessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { testRecipe } from "../store/testing/farm.ts";
import { runSourceStep } from "./source-step.ts";
import { FakeMachine } from "./testing/fake-machine.ts";

const BUILD = { id: buildId(1), repo: "go", commitId: 1, builder: "linux-amd64", hostType: "linux" };

/** The step on a machine that is being emptied until `emptied` settles. */
function begin() {
  const machine = new FakeMachine({ id: sessionId("0".repeat(32)), machineId: machineId(1), name: "m1" });
  const emptied = Promise.withResolvers<void>();
  const archives: Readable[] = [];
  const tarball = async (): Promise<Readable> => {
    archives.push(Readable.from([Buffer.from("the tree")]));
    return archives.at(-1) ?? Readable.from([]);
  };
  const deps = {
    clock: new FakeClock(),
    tarball,
    cleaning: emptied.promise,
    snapshots: {
      find: async () => undefined,
      about: () => "",
      restore: () => Promise.reject(new Error("there is no snapshot")),
    },
    layOut: async () => {},
  };
  const now = epochMs(0);
  const log = { id: logId(1), epoch: 1, length: 0, lines: 0 };
  const attempt = {
    attempt: attemptId(1),
    number: 1,
    build: BUILD,
    startedAt: now,
    countsFrom: now,
    commandsFrom: now,
    at: 0,
    log,
  };
  const begun = { ...attempt, hash: "abc123", recipe: testRecipe("linux-amd64", "linux") };
  const unused = () => Promise.reject(new Error("not asked for"));
  const writer = { next: 0, write: async () => {}, close: unused, leave: unused, seal: unused };
  const done = runSourceStep(deps, begun, machine, writer, () => {}, new AbortController().signal);
  return { machine, emptied, archives, done };
}

test("the archive is asked for while the machine is emptied, and written to it only then", async () => {
  const { machine, emptied, archives, done } = begin();
  await vi.waitFor(() => expect(archives).toHaveLength(1));
  expect(machine.calls).toEqual([]);
  emptied.resolve();
  expect([await done, machine.calls, archives.length]).toEqual(["source", ["writetgz src"], 1]);
});

test("a machine that cannot be emptied gets nothing, and the archive is let go", async () => {
  const { machine, emptied, archives, done } = begin();
  await vi.waitFor(() => expect(archives).toHaveLength(1));
  emptied.reject(new FarmError("machine-broken", "/removeall answered 500"));
  await expect(done).rejects.toThrow("/removeall answered 500");
  await vi.waitFor(() => expect(archives[0]?.destroyed).toBe(true));
  expect(machine.calls).toEqual([]);
});
