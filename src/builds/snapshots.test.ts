import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { gunzipSync, gzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { expect, test, vi } from "vitest";
import { Blobs } from "../blobs/blobs.ts";
import type { Recipe } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { attemptId, buildId, type CoordinatorId, minutes, ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { coordinatorEnded } from "../store/coordinators.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addCoordinator, addHostType, addMachine, NOON, testRecipe } from "../store/testing/farm.ts";
import { tarEnd, tarHeader, tarPadding } from "../wire/tar/tar-writer.ts";
import { insertPlanned } from "./insert.ts";
import {
  LEAVE_FREE,
  makeDigest,
  SNAPSHOT_UPLOAD_LIMIT,
  type SnapshotOf,
  Snapshots,
  type SnapshotsDeps,
  UPLOAD_AFTER_BUILD,
} from "./snapshots.ts";
import { FakeMachine, type FakeMachineOptions } from "./testing/fake-machine.ts";

const step = { name: "t", command: ["t"], dir: "", env: [], path: [], timeLimitMs: 1000 };
const RECIPE: Recipe = {
  ...testRecipe("linux-amd64", "linux", ["make"]),
  tests: {
    list: { names: ["a"] }, run: step, names: "args", results: "exit", groupTargetMs: 1, unknownMs: 1, helpers: 0, tryHelpers: 0, keepGoing: true,
  },
  snapshot: { exclude: [], limitBytes: 100_000_000, keepMs: 3_600_000 },
}; // biome-ignore format: one glance

class Farm implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly coordinator: CoordinatorId;
  readonly folder: string;
  readonly blobs: Blobs;
  readonly snapshots: Snapshots;
  readonly never = new AbortController().signal;

  private constructor(
    database: TestDatabase,
    coordinator: CoordinatorId,
    folder: string,
    blobs: Blobs,
    clock: Clock,
    over: Partial<SnapshotsDeps>,
  ) {
    this.database = database;
    this.coordinator = coordinator;
    this.folder = folder;
    this.blobs = blobs;
    this.snapshots = new Snapshots({
      sql: database.sql,
      bus: database.bus,
      clock,
      log: quiet,
      blobs,
      coordinator,
      ...over,
    });
  }

  static async open(clock: Clock = systemClock, over: Partial<SnapshotsDeps> = {}): Promise<Farm> {
    const database = await freshDatabase();
    await addHostType(database.sql, "linux");
    const folder = await mkdtemp(join(tmpdir(), "snapshots-"));
    const blobs = await Blobs.open(folder, NOON);
    return new Farm(database, await addCoordinator(database.sql), folder, blobs, clock, over);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.snapshots[Symbol.asyncDispose]();
    await this.database[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true });
  }

  /** Makes an attempt of a build, for a commit of its own. */
  async attempt(recipe: Recipe = RECIPE): Promise<SnapshotOf> {
    const { sql } = this.database;
    const commitId = await addCommit(sql, "tool", randomBytes(20).toString("hex"));
    const planned = {
      repo: "tool",
      commitId,
      committedAt: NOON,
      branch: "main",
      head: true,
      recipe,
      provenance: "submitted",
      class: "post-submit",
    } as const;
    const [build] = await insertPlanned(sql, [planned], NOON);
    if (!build) throw new Error("not planned");
    const [attempt] = await sql.query<{ id: number }>("select id from attempt where build_id = $1", [build.id]);
    return { attempt: attemptId(attempt?.id ?? 0), epoch: 0, build, recipe };
  }

  async machine(options: Partial<FakeMachineOptions> = {}): Promise<FakeMachine> {
    const name = `m${randomBytes(3).toString("hex")}`;
    return new FakeMachine({ ...(await addMachine(this.database.sql, "linux", name, this.coordinator)), ...options });
  }

  async keep(of: SnapshotOf, machine: FakeMachine): Promise<string | null | undefined> {
    await this.snapshots.keep(of, machine, this.never).kept;
    return this.note(of);
  }

  async note({ attempt }: SnapshotOf): Promise<string | null | undefined> {
    const [row] = await this.database.sql.query<{ note: string | null }>(
      "select snapshot_note as note from attempt where id = $1",
      [attempt],
    );
    return row?.note;
  }

  /** Keeps a tree, and returns what find() finds after that. */
  async kept(of: SnapshotOf) {
    await this.keep(of, await this.machine());
    const found = await this.snapshots.find(of);
    if (!found) throw new Error(`not kept: ${await this.note(of)}`);
    return found;
  }

  async files(): Promise<string[]> {
    return (await readdir(this.folder, { recursive: true, withFileTypes: true }))
      .filter((f) => f.isFile())
      .map((f) => f.name);
  }
}

const streamed = (content: Iterable<Buffer> | AsyncIterable<Buffer>) => () => ({
  body: Readable.from(content),
  excluded: true,
});

test("keep() stores the tree that a machine packs; find() gives it to every build of the same commit made in the same way; restore() writes it", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  const maker = await farm.machine({ name: "maker" });
  expect(await farm.snapshots.find(of)).toBeUndefined();
  expect(await farm.keep(of, maker)).toMatch(/^kept: 0 KiB in \d+ ms$/);
  const found = await farm.snapshots.find({ ...of, build: { ...of.build, id: buildId(99) } });
  if (!found) throw new Error("not found");
  expect(found).toMatchObject({ bytes: 13, build: of.build.id, machine: "maker" });
  expect(farm.snapshots.about(found)).toMatch(/^snapshot: 0 KiB, made \d+ ms ago by build 1 on maker$/);
  const helper = await farm.machine({ skippedLinks: 3 });
  expect(await farm.snapshots.restore(found, of.recipe, helper, farm.never)).toEqual({ skippedLinks: 3 });
  expect([helper.calls, String(helper.archives.get("src"))]).toEqual([["writetgz src"], "the made tree"]);
});

test("a snapshot of another commit, builder or way to make the tree is never found; tests and limits make no difference", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  await farm.kept(of);
  const { recipe, build } = of;
  const other = await farm.attempt();
  const make = recipe.steps.map((each) => ({ ...each, env: ["CC=clang"] }));
  const spec = { exclude: [], limitBytes: 5, keepMs: 5 };
  const finds = async (over: Partial<Recipe>, ref = build) =>
    (await farm.snapshots.find({ ...of, build: ref, recipe: { ...recipe, ...over } })) !== undefined;
  expect(await finds({ limits: { buildMs: 1 }, snapshot: spec })).toBe(true);
  for (const over of [
    { steps: make },
    { env: [] },
    { hostType: "linux-2" },
    { sourceDir: "elsewhere" },
    { compileOnly: true },
    { snapshot: { ...spec, exclude: ["*.o"] } },
    { sources: [{ dir: "src", commit: "own" }] },
  ] as const) {
    expect([over, await finds(over)]).toEqual([over, false]);
  }
  expect([await finds({}, other.build), await finds({}, { ...build, builder: "linux-amd64-race" })]).toEqual([
    false,
    false,
  ]);
  const turned = Object.fromEntries(Object.entries(recipe).reverse()) as unknown as Recipe;
  expect(makeDigest(turned)).toBe(makeDigest(recipe));
});

test("[coordinator 72] without a snapshot in the recipe, without tests, and with stopAfterMake a machine is asked for nothing and nothing is found", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  await farm.kept(of);
  const { tests: _, ...noTests } = RECIPE;
  const { snapshot: __, ...noSnapshot } = RECIPE;
  for (const recipe of [noTests, noSnapshot, { ...RECIPE, stopAfterMake: true as const }]) {
    const snapshot = vi.fn();
    const machine = await farm.machine({ snapshot });
    await farm.snapshots.keep({ ...of, recipe }, machine, farm.never).kept;
    expect([await farm.snapshots.find({ ...of, recipe }), snapshot.mock.calls.length]).toEqual([undefined, 0]);
  }
});

test("a snapshot over the limit is not kept, and the note names the limit; the machine is cut off", async () => {
  await using farm = await Farm.open();
  const snapshot = { exclude: [], limitBytes: 3 * 1024 ** 2, keepMs: 1000 };
  const of = await farm.attempt({ ...RECIPE, snapshot });
  let sent = 0;
  let ended = false;
  const endless = async function* () {
    try {
      for (;;) {
        sent++;
        yield Buffer.alloc(1024 ** 2);
      }
    } finally {
      ended = true;
    }
  };
  const note = await farm.keep(of, await farm.machine({ snapshot: streamed(endless()) }));
  expect(note).toBe("not kept: packed it is larger than the limit of 3 MiB (snapshot.limit of the builder)");
  expect([sent < 40, ended, await farm.files()]).toEqual([true, true, []]);
});

test("a machine that goes away in the middle of the upload, one that breaks it off, and one that refuses: no snapshot, nothing left", async () => {
  await using farm = await Farm.open();
  const half = async function* () {
    yield Buffer.from("half");
    throw new FarmError("machine-gone", "Machine m broke off GET /tgz");
  };
  const of = await farm.attempt();
  expect(await farm.keep(of, await farm.machine({ snapshot: streamed(half()) }))).toBe(
    "not kept: Machine m broke off GET /tgz",
  );
  const refuses = await farm.machine({
    snapshot: () => {
      throw new FarmError("bad-request", "Machine m answered GET /tgz with 404");
    },
  });
  expect(await farm.keep(of, refuses)).toBe("not kept: Machine m answered GET /tgz with 404");
  const hangs = await farm.machine({ snapshot: (_, signal) => ({ body: stalled(signal), excluded: true }) });
  const upload = farm.snapshots.keep(of, hangs, farm.never);
  hangs.hangUp("missed 2 keep-alives");
  await upload.kept;
  expect([await farm.note(of), await farm.snapshots.find(of)]).toEqual(["not kept: missed 2 keep-alives", undefined]);
  await vi.waitFor(async () => expect(await farm.files()).toEqual([]));
});

test("a coordinator that was cut off writes no note about the snapshot of an attempt that another has adopted", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  const hangs = await farm.machine({ snapshot: (_, signal) => ({ body: stalled(signal), excluded: true }) });
  const upload = farm.snapshots.keep(of, hangs, farm.never);
  await farm.database.sql.query("update lease set epoch = epoch + 1");
  expect(await farm.keep({ ...of, epoch: of.epoch + 1 }, await farm.machine())).toMatch(/^kept/);
  hangs.hangUp("missed 2 keep-alives");
  await upload.kept;
  expect(await farm.note(of)).toMatch(/^kept/);
});

/** Gives some bytes, and then nothing until it is aborted. */
function stalled(signal: AbortSignal | undefined): Readable {
  const body = new Readable({ read() {} });
  body.push("begin");
  signal?.addEventListener("abort", () => body.destroy(new Error("cut")), { once: true });
  return body;
}

test("an upload slower than the tests holds its machine for UPLOAD_AFTER_BUILD; one that never ends is given up after SNAPSHOT_UPLOAD_LIMIT", async () => {
  const clock = new FakeClock();
  await using farm = await Farm.open(clock);
  const of = await farm.attempt();
  const slow = {
    snapshot: (_: unknown, signal: AbortSignal | undefined) => ({ body: stalled(signal), excluded: true }),
  };
  const upload = farm.snapshots.keep(of, await farm.machine(slow), farm.never);
  let finished = false;
  const finishing = upload.finish().then(() => {
    finished = true;
  });
  await clock.advance(ms(UPLOAD_AFTER_BUILD - 1));
  expect(finished).toBe(false);
  await clock.advance(ms(1));
  await finishing;
  expect(await farm.note(of)).toBe("not kept: the build ended, and 30 s later it was still under way");
  const endless = farm.snapshots.keep(of, await farm.machine(slow), farm.never);
  let over = false;
  void endless.kept.then(() => {
    over = true;
  });
  await vi.waitFor(async () => {
    await clock.advance(SNAPSHOT_UPLOAD_LIMIT);
    expect(over).toBe(true);
  });
  expect(await farm.note(of)).toBe("not kept: its upload took longer than 15m 00s");
  const quick = farm.snapshots.keep(of, await farm.machine(), farm.never);
  await quick.finish();
  expect(await farm.note(of)).toMatch(/^kept/);
});

test("no snapshot is kept on a disk that is nearly full, and one that gets full is not the build's trouble", async () => {
  await using farm = await Farm.open();
  const { blobs } = farm;
  const snapshotsOn = (over: Partial<SnapshotsDeps["blobs"]>) =>
    new Snapshots({
      sql: farm.database.sql, bus: farm.database.bus, clock: systemClock, log: quiet, coordinator: farm.coordinator,
      blobs: {
        begin: blobs.begin.bind(blobs), get: blobs.get.bind(blobs), delete: blobs.delete.bind(blobs),
        list: blobs.list.bind(blobs), free: async () => 2 * LEAVE_FREE, ...over,
      },
    }); // biome-ignore format: one glance
  const of = await farm.attempt();
  const asked = vi.fn();
  await using nearly = snapshotsOn({ free: async () => LEAVE_FREE / 2 });
  await nearly.keep(of, await farm.machine({ snapshot: asked }), farm.never).kept;
  expect([await farm.note(of), asked.mock.calls.length]).toEqual([
    "not kept: the coordinator's disk has only 512 MiB left, and leaves 1 GiB free",
    0,
  ]);
  let free = 2 * LEAVE_FREE;
  await using filling = snapshotsOn({ free: async () => free });
  const content = async function* () {
    for (let i = 0; i < 100; i++) {
      yield Buffer.alloc(1024 ** 2);
      free = 1000;
    }
  };
  await filling.keep(of, await farm.machine({ snapshot: streamed(content()) }), farm.never).kept;
  expect(await farm.note(of)).toBe(
    "not kept: the coordinator's disk has only 1 KiB left after 65 MiB of it, and leaves 1 GiB free",
  );
  const full = new FarmError("unavailable", "Cannot keep a blob: the disk of /data is full");
  await using broken = snapshotsOn({
    begin: (key, body) => {
      const { growing, written } = blobs.begin(key, body);
      return { growing, written: written.then(() => Promise.reject(full)) };
    },
  });
  await broken.keep(of, await farm.machine(), farm.never).kept;
  expect(await farm.note(of)).toBe("not kept: Cannot keep a blob: the disk of /data is full");
});

test.each([
  ["truncated", "the snapshot is damaged: it has 5 of 13 bytes", (path: string) => truncate(path, 5)],
  [
    "longer",
    "the snapshot is damaged: it has more than 13 bytes",
    (path: string) => writeFile(path, "the made tree and more"),
  ],
  [
    "corrupt",
    "the snapshot is damaged: its SHA-256 is not what it was when it was stored",
    (path: string) => writeFile(path, "the mAde tree"),
  ],
  ["gone", /^Cannot read "snapshots\/.*": there is no such blob$/, (path: string) => rm(path)],
])(
  "a snapshot that is %s is noticed before it is trusted: dropped, and the folder emptied again",
  async (_, why, damage) => {
    await using farm = await Farm.open();
    const of = await farm.attempt();
    const found = await farm.kept(of);
    await damage(join(farm.folder, found.blob));
    const machine = await farm.machine();
    const restored = await farm.snapshots.restore(found, of.recipe, machine, farm.never);
    expect(restored).toEqual({ bad: typeof why === "string" ? why : expect.stringMatching(why) });
    expect(machine.calls).toEqual(["writetgz src", "removeall src"]);
    expect([await farm.snapshots.find(of), await farm.files()]).toEqual([undefined, []]);
    expect(await farm.keep(of, await farm.machine())).toMatch(/^kept/);
  },
);

test("the bytes of another revision's snapshot in the place of this one's are noticed", async () => {
  await using farm = await Farm.open();
  const [one, two] = [await farm.attempt(), await farm.attempt()];
  await farm.keep(one, await farm.machine({ snapshot: streamed([Buffer.from("tree of one!!")]) }));
  await farm.keep(two, await farm.machine({ snapshot: streamed([Buffer.from("tree of two!!")]) }));
  const [first, second] = [await farm.snapshots.find(one), await farm.snapshots.find(two)];
  if (!first || !second) throw new Error("not kept");
  await writeFile(join(farm.folder, second.blob), await buffer(await farm.blobs.get(first.blob)));
  expect(await farm.snapshots.restore(second, two.recipe, await farm.machine(), farm.never)).toMatchObject({
    bad: expect.stringContaining("SHA-256"),
  });
});

test("restore(): an archive that a machine refuses is dropped; a machine that goes away, or takes half for the whole, is at fault itself", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  const found = await farm.kept(of);
  const gone = await farm.machine({ dieIn: "writetgz" });
  await expect(farm.snapshots.restore(found, of.recipe, gone, farm.never)).rejects.toMatchObject({
    code: "machine-gone",
  });
  const hasty = await farm.machine();
  hasty.client.writeTgz = async () => ({ skippedLinks: 0 });
  await expect(farm.snapshots.restore(found, of.recipe, hasty, farm.never)).rejects.toMatchObject({
    code: "machine-broken",
  });
  expect(await farm.snapshots.find(of)).toEqual(found);
  const refuses = await farm.machine();
  refuses.client.writeTgz = () => Promise.reject(new FarmError("bad-request", "Cannot read archive: not gzip"));
  expect(await farm.snapshots.restore(found, of.recipe, refuses, farm.never)).toEqual({
    bad: "Cannot read archive: not gzip",
  });
  expect(await farm.snapshots.find(of)).toBeUndefined();
});

test("bytes that another coordinator has come from there; while it is away the snapshot is not used, and stays", async () => {
  let answer: () => Promise<Readable> = async () => Readable.from([Buffer.from("the made tree")]);
  await using farm = await Farm.open(systemClock, { elsewhere: () => answer() });
  const of = await farm.attempt();
  const found = await farm.kept(of);
  await farm.blobs.delete(found.blob);
  const machine = await farm.machine();
  expect(await farm.snapshots.restore(found, of.recipe, machine, farm.never)).toEqual({ skippedLinks: 0 });
  answer = () => Promise.reject(new FarmError("unavailable", "coordinator P000000002 does not answer"));
  expect(await farm.snapshots.restore(found, of.recipe, machine, farm.never)).toEqual({
    bad: "coordinator P000000002 does not answer",
  });
  expect((await farm.snapshots.find(of))?.blob).toBe(found.blob);
  expect([await farm.snapshots.keep(of, machine, farm.never).kept, await farm.files()]).toEqual([true, []]);
  await coordinatorEnded(farm.database.sql, farm.coordinator, NOON);
  expect(await farm.snapshots.keep(of, machine, farm.never).kept).toBe(true); // made meanwhile, in the place of one that nobody can have
  expect(await farm.files()).toHaveLength(1);
});

test("two attempts that make the same tree at once keep one snapshot", async () => {
  await using farm = await Farm.open();
  const of = await farm.attempt();
  const made = ["one", "two", "two"].map((text) => streamed([Buffer.from(text)]));
  const machines = await Promise.all(made.map((snapshot) => farm.machine({ snapshot })));
  await Promise.all(machines.map((machine) => farm.snapshots.keep(of, machine, farm.never).kept));
  const found = await farm.snapshots.find(of);
  expect(await farm.files()).toEqual([found?.blob.slice("snapshots/".length)]);
});

test("a snapshot expires; one that is used lives on for as long again; expire() deletes a bite at a time", async () => {
  const clock = new FakeClock();
  await using farm = await Farm.open(clock);
  const attempts = [await farm.attempt(), await farm.attempt(), await farm.attempt()];
  const all = await Promise.all(attempts.map((of) => farm.kept(of)));
  const [of, used] = [attempts[0], all[0]];
  if (!of || !used) throw new Error("not kept");
  await clock.advance(minutes(59));
  await farm.snapshots.restore(used, of.recipe, await farm.machine(), farm.never);
  await clock.advance(minutes(1));
  expect(await Promise.all(attempts.map(async (each) => (await farm.snapshots.find(each))?.blob))).toEqual([
    used.blob,
    undefined,
    undefined,
  ]);
  expect([await farm.snapshots.expire(1), await farm.snapshots.expire(5), await farm.snapshots.expire(5)]).toEqual([
    1, 1, 0,
  ]);
  expect(await farm.files()).toEqual([used.blob.slice("snapshots/".length)]);
  await clock.advance(minutes(60));
  expect(await farm.keep(of, await farm.machine())).toMatch(/^kept/); // in the place of one that expired and is still there
});

test.each([-1, 1])("a tree from a machine whose clock is off by %i day expires as any other", async (days) => {
  const clock = new FakeClock();
  await using farm = await Farm.open(clock);
  const mtime = Math.floor(clock.now() / 1000) + days * 86_400;
  const file = tarHeader({ name: "x", type: "file", mode: 0o644, size: 0, mtime });
  const packed = gzipSync(Buffer.concat([file, tarEnd()]));
  const of = await farm.attempt();
  const machine = await farm.machine({ snapshot: () => ({ body: Readable.from([packed]), excluded: false }) });
  expect(await farm.keep(of, machine)).toMatch(/^kept/);
  expect((await farm.snapshots.find(of))?.madeAt).toBe(clock.now());
  await clock.advance(minutes(59));
  expect(await farm.snapshots.find(of)).toBeDefined();
  await clock.advance(minutes(1));
  expect(await farm.snapshots.find(of)).toBeUndefined();
});

test("sweep() deletes blobs that have no row, once they are old", async () => {
  const clock = new FakeClock();
  await using farm = await Farm.open(clock);
  const found = await farm.kept(await farm.attempt());
  for (const name of ["young", "old"]) await farm.blobs.put(`snapshots/${name}`, Readable.from([Buffer.from("x")]));
  for (const [name, age] of [
    ["young", 59],
    ["old", 61],
    [found.blob.slice(10), 100],
  ] as const) {
    const then = (clock.now() - minutes(age)) / 1000;
    await utimes(join(farm.folder, "snapshots", name), then, then);
  }
  await farm.snapshots.sweep();
  expect((await farm.files()).sort()).toEqual([found.blob.slice(10), "young"].sort());
});

test("start() tidies up now and then, until disposed", async () => {
  const clock = new FakeClock();
  await using farm = await Farm.open(clock);
  await farm.kept(await farm.attempt());
  farm.snapshots.start();
  await vi.waitFor(async () => {
    await clock.advance(minutes(10));
    expect(await farm.files()).toEqual([]);
  });
});

test("what a machine could not exclude is left out on the way", async () => {
  await using farm = await Farm.open();
  const file = (name: string, content: string) => {
    const entry = { type: "file", name, mode: 0o644, mtime: 7, size: content.length } as const;
    return [tarHeader(entry), Buffer.from(content), tarPadding(content.length)];
  };
  const folder = (name: string) => [tarHeader({ type: "directory", name, mode: 0o755, mtime: 7, size: 0 })];
  const link = [tarHeader({ type: "symlink", name: "link", linkName: "main.c", mode: 0o777, mtime: 7, size: 0 })];
  const tree = Buffer.concat([
    ...file("main.c", "int main;"), ...file("main.o", "x".repeat(5000)), ...folder("cache/"), ...file("cache/big", "y"), ...link, tarEnd(),
  ]); // biome-ignore format: one glance
  const members = Buffer.concat([gzipSync(tree.subarray(0, 700)), gzipSync(tree.subarray(700))]);
  const recipe = { ...RECIPE, snapshot: { exclude: ["*.o", "/cache/"], limitBytes: 1e6, keepMs: 1e6 } };
  const of = await farm.attempt(recipe);
  const plain = await farm.machine({ snapshot: () => ({ body: Readable.from([members]), excluded: false }) });
  expect(await farm.keep(of, plain)).toMatch(/^kept/);
  const found = await farm.snapshots.find(of);
  const kept = await unpackTar(gunzipSync(await buffer(await farm.blobs.get(found?.blob ?? ""))));
  expect(
    kept.map(({ header, data }) => [header.name, header.linkname ?? "", Buffer.from(data ?? []).toString()]),
  ).toEqual([
    ["main.c", "", "int main;"],
    ["link", "main.c", ""],
  ]);
  for (const [body, why] of [
    [Buffer.from("no gzip"), /^not kept: incorrect header check$/],
    [
      gzipSync(Buffer.concat([...file("../x", "1"), tarEnd()])),
      /^not kept: its archive holds "..\/x", which leads out of it$/,
    ],
    [members.subarray(0, -50), /^not kept: unexpected end of file$/],
  ] as const) {
    const bad = await farm.machine({ snapshot: () => ({ body: Readable.from([body]), excluded: false }) });
    expect(await farm.keep(await farm.attempt(recipe), bad)).toMatch(why);
  }
  expect((await farm.files()).length).toBe(1);
});
