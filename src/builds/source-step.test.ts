import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { attemptId, buildId, epochMs, logId, machineId, sessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { testRecipe } from "../store/testing/farm.ts";
import { runSourceStep, SOURCE_UPLOAD_LIMIT } from "./source-step.ts";
import { FakeMachine, type FakeMachineOptions } from "./testing/fake-machine.ts";

const BUILD = { id: buildId(1), repo: "go", commitId: 1, builder: "linux-amd64", hostType: "linux" };

/** The step on a machine that is being emptied until `emptied` settles. */
function begin(options: Pick<FakeMachineOptions, "hangIn"> = {}, source?: Readable) {
  const machine = new FakeMachine({ id: sessionId("0".repeat(32)), machineId: machineId(1), name: "m1", ...options });
  const clock = new FakeClock();
  const emptied = Promise.withResolvers<void>();
  const archives: Readable[] = [];
  const tarball = async (): Promise<Readable> => {
    archives.push(source ?? Readable.from([Buffer.from("the tree")]));
    return archives.at(-1) ?? Readable.from([]);
  };
  const deps = {
    clock,
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
    sourceFrom: now,
    commandsFrom: now,
    at: 0,
    log,
  };
  const begun = { ...attempt, hash: "abc123", recipe: testRecipe("linux-amd64", "linux") };
  const unused = () => Promise.reject(new Error("not asked for"));
  const writer = { next: 0, write: async () => {}, close: unused, leave: unused, seal: unused };
  const done = runSourceStep(deps, begun, machine, writer, () => {}, new AbortController().signal);
  return { machine, clock, emptied, archives, done };
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

test.each([
  ["a machine that takes the source and never answers", "timed-out", { hangIn: "writetgz" }, undefined],
  ["a source of which not all comes", "unavailable", {}, new Readable({ read() {} })],
] as const)("%s, for as long as it may be written, is %s", async (_, code, options, source) => {
  const { machine, clock, emptied, done } = begin(options, source);
  emptied.resolve();
  await vi.waitFor(() => expect(machine.calls).toEqual(["writetgz src"]));
  source?.push(Buffer.from("a part"));
  await vi.waitFor(() => expect(machine.received).toBeGreaterThan(0));
  await Promise.all([
    clock.advance(SOURCE_UPLOAD_LIMIT),
    expect(done).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/writing go to m1 took longer than /),
    }),
  ]);
});
