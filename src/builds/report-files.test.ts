import { PassThrough, type Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { expect, test, vi } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { machineId, minutes, ms, sessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { tarHeader, tarPadding } from "../wire/tar/tar-writer.ts";
import { ReportFiles } from "./report-files.ts";
import { FakeMachine, type FakeMachineOptions } from "./testing/fake-machine.ts";

const REPORT = Buffer.from("<testsuite/>");
const never = new AbortController().signal;

function machineWith(names: readonly string[], options: Partial<FakeMachineOptions> = {}): FakeMachine {
  const machine = new FakeMachine({ id: sessionId("0".repeat(32)), machineId: machineId(1), name: "m1", ...options });
  for (const name of names) machine.files.set(`src/${name}`, REPORT);
  return machine;
}

function filesOf(machine: FakeMachine, glob: string, clock = new FakeClock(), taken = async () => {}) {
  const files = new ReportFiles(clock, machine, "src", glob);
  const ended: string[] = [];
  const pushed: string[] = [];
  const open = (name: string) => ({ push: () => void pushed.push(name), end: () => void ended.push(name) });
  const read = () => files.read({ open, taken }, never);
  return { files, ended, pushed, read };
}

const modules = Array.from({ length: 1000 }, (_, i) => `node_modules/m${i}/test.xml`);

test("a report at the root of a large tree: only that is listed and read, with two calls", async () => {
  const machine = machineWith([...modules, "lib/a.js", "lib/deep/b.xml", "report.xml", "index.js"]);
  const { files, ended, read } = filesOf(machine, "*.xml");
  await read();
  expect([ended, files.troubles, machine.listed, machine.calls]).toEqual([["report.xml"], [], 2, ["tgz src 1"]]);
});

test("a glob lists no deeper than it reaches, and never the modules of others", async () => {
  const machine = machineWith([...modules, "p/a/r.xml", "p/a/b/r.xml", "p/a/node_modules/x/r.xml", "r.xml"]);
  const shallow = filesOf(machine, "p/*/r.xml");
  await shallow.read();
  expect([shallow.ended, machine.listed]).toEqual([["a/r.xml"], 1]);
  const deep = filesOf(machine, "**/*.xml");
  await deep.read();
  expect(deep.ended).toEqual(["p/a/r.xml", "p/a/b/r.xml", "r.xml"]);
  expect(machine.listed).toBe(1 + 3);
  expect(await deep.files.remove(never)).toBe(true);
  expect(machine.files.size).toBe(1001);
  expect(machine.calls.slice(-1)).toEqual(["removeall src/p/a/r.xml src/p/a/b/r.xml src/r.xml"]);
});

test("the original lists nested modules of others, and no report is read from them", async () => {
  const machine = machineWith(["node_modules/r.xml", "p/node_modules/x/r.xml", "p/r.xml"], { agent: "original" });
  const { ended, read } = filesOf(machine, "**/*.xml");
  await read();
  expect([ended, machine.listed, machine.calls]).toEqual([["p/r.xml"], 2, ["tgz src/p 2"]]);
});

test("without reports it is one call before a group and one after it", async () => {
  const machine = machineWith(["main.js"]);
  const { files, read } = filesOf(machine, "out/**/*.xml");
  await files.remove(never);
  await read();
  expect([files.troubles, machine.calls, machine.listed]).toEqual([[], [], 0]);
});

test("the original gives folders: those that have reports, until the last of them has come", async () => {
  const machine = machineWith(["out/a/1.xml", "out/a/2.xml", "out/b/x.bin", "out/c/3.xml", "out/c/z.bin"], {
    agent: "original",
  });
  const { files, ended, read } = filesOf(machine, "out/*/*.xml");
  await read();
  expect([ended, files.troubles]).toEqual([["a/1.xml", "a/2.xml", "c/3.xml"], []]);
  expect(machine.calls).toEqual(["tgz src/out/a 2", "tgz src/out/c 2"]);
});

test("the original: what is beside the reports has a limit, and what comes after that is left out", async () => {
  const machine = machineWith(["a.xml"], { agent: "original" });
  machine.files.set("src/core", Buffer.alloc(257 * 1024 * 1024));
  machine.files.set("src/z.xml", REPORT);
  const { files, ended, read } = filesOf(machine, "*.xml");
  await read();
  expect([ended, files.troubles]).toEqual([
    ["a.xml"],
    ["1 of its files left out: m1 packs their folder whole, and more than 256 MiB are beside them"],
  ]);
});

test("a listing that takes too long is said, and no fault of the machine; reports that may be of earlier tests are not read", async () => {
  const clock = new FakeClock();
  let hangs = true;
  const machine = machineWith(["r.xml"], { ls: () => (hangs ? new Promise(() => {}) : undefined) });
  const { files, ended, read } = filesOf(machine, "*.xml", clock);
  const removed = files.remove(never);
  await clock.advance(minutes(1));
  expect(await removed).toBe(false);
  files.pass();
  const late = read();
  await clock.advance(minutes(1));
  await late;
  const listing = "listing m1 took longer than 1m 00s";
  expect([ended, files.late]).toEqual([[], true]);
  expect(files.troubles).toEqual([listing, "none is read, since those of earlier tests may be among them", listing]);
  hangs = false;
  const again = filesOf(machine, "*.xml", clock);
  expect([await again.files.remove(never), again.files.late, machine.files.size]).toEqual([true, false, 0]);
});

test("reports that take too long to read are left out, and what came is kept", async () => {
  const clock = new FakeClock();
  const slow = new PassThrough();
  const started = Promise.withResolvers<void>();
  const machine = machineWith(["a.xml", "b.xml"], {
    readFiles: async (): Promise<Readable> => {
      slow.write(gzipSync(Buffer.concat([entry("a.xml"), entry("b.xml").subarray(0, 515)])));
      started.resolve();
      return slow;
    },
  });
  const { files, ended, pushed, read } = filesOf(machine, "*.xml", clock);
  const done = read();
  await started.promise;
  while (pushed.length < 2) await new Promise(setImmediate);
  await clock.advance(minutes(5));
  await done;
  expect([ended, files.troubles]).toEqual([["a.xml"], ["reading reports from m1 took longer than 5m 00s"]]);
  expect(files.late).toBe(true);
});

test("while whoever reads takes no more, no time passes for the machine, which has what is left of it then", async () => {
  const clock = new FakeClock();
  const slow = new PassThrough();
  const readFiles = vi.fn(async () => slow);
  const machine = machineWith(["a.xml", "b.xml"], { readFiles });
  const flush = Promise.withResolvers<void>();
  const taken = vi.fn(() => flush.promise);
  const { files, ended, read } = filesOf(machine, "*.xml", clock, taken);
  const done = read();
  await vi.waitFor(() => expect(readFiles).toHaveBeenCalled());
  await clock.advance(minutes(3));
  slow.write(gzipSync(entry("a.xml")));
  await vi.waitFor(() => expect(taken).toHaveBeenCalled());
  await clock.advance(minutes(14));
  expect(files.late).toBe(false);
  flush.resolve();
  await new Promise(setImmediate);
  await clock.advance(minutes(1));
  expect(files.late).toBe(false);
  await clock.advance(minutes(1));
  await done;
  expect([ended, files.late]).toEqual([["a.xml"], true]);
});

test("a listing that is too large is no lateness: there is as little to be read on any other machine", async () => {
  const tooLarge = new FarmError("too-large", "the answer of m1 is over 256 MiB");
  const { files, read } = filesOf(machineWith(["r.xml"], { ls: () => Promise.reject(tooLarge) }), "*.xml");
  expect(await files.remove(never)).toBe(false);
  files.pass();
  await read();
  const passed = "none is read, since those of earlier tests may be among them";
  expect([files.late, files.troubles]).toEqual([false, [tooLarge.message, passed, tooLarge.message]]);
});

test("reports that somebody else did not remove may have been there since that took too long", () => {
  const { files } = filesOf(machineWith([]), "*.xml");
  files.pass();
  expect(files.late).toBe(true);
});

test("too many reports: the first are read, in as many archives as their names need", async () => {
  const machine = machineWith(Array.from({ length: 10_003 }, (_, i) => `out/${i}.xml`));
  const { files, ended, read } = filesOf(machine, "out/*.xml");
  await read();
  const few = "3 of its files left out: there may be 10000 of them";
  expect([ended.length, files.troubles, files.late]).toEqual([10_000, [few], false]);
  expect(machine.calls.length).toBeLessThan(25);
});

test("an archive that ends in the middle of a file, between two gzip members, is the machine's fault", async () => {
  const { read } = filesOf(machineWith(["a.xml"], { readFiles: async () => cut() }), "*.xml");
  await expect(read()).rejects.toMatchObject({ code: "machine-broken" });
});

function entry(name: string): Buffer {
  const header = tarHeader({ name, type: "file", mode: 0o644, size: REPORT.length, mtime: 0 });
  return Buffer.concat([header, REPORT, tarPadding(REPORT.length)]);
}

function cut(): Readable {
  const packed = new PassThrough();
  packed.end(gzipSync(entry("a.xml").subarray(0, 515)));
  return packed;
}

test("what takes too long takes no longer than the build has, and a moment when it has nothing", async () => {
  const clock = new FakeClock();
  const machine = machineWith(["r.xml"], { ls: () => new Promise(() => {}) });
  const build = { endsAt: 20_000, limit: minutes(30) };
  for (const seconds of [20, 15]) {
    const files = new ReportFiles(clock, machine, "src", "*.xml", build);
    const removed = files.remove(never);
    await clock.advance(ms(seconds * 1000));
    expect([await removed, files.late, files.troubles]).toEqual([
      false,
      true,
      [`listing m1 took longer than ${seconds} s`],
    ]);
  }
});
