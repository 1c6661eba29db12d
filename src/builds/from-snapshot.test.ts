import { mkdtemp, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { Blobs } from "../blobs/blobs.ts";
import { type BuildId, coordinatorId, type LogId, ms } from "../farm/ids.ts";
import { layOutAttempt } from "../store/snapshots.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addCoordinator, addHostType, NOON, testRecipe } from "../store/testing/farm.ts";
import { insertPlanned } from "./insert.ts";
import { Snapshots } from "./snapshots.ts";
import type { FakeMachineOptions } from "./testing/fake-machine.ts";
import { TestFarm } from "./testing/farm.ts";
import { endedBuild, testsSpec } from "./testing/tests.ts";

/** A farm that keeps snapshots, and a build with the steps `make` and `link` and one test. */
class Farm implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly farm: TestFarm;
  readonly folder: string;
  readonly build: BuildId;
  readonly #snapshots: Snapshots;

  private constructor(parts: Pick<Farm, "database" | "farm" | "folder" | "build">, snapshots: Snapshots) {
    this.database = parts.database;
    this.farm = parts.farm;
    this.folder = parts.folder;
    this.build = parts.build;
    this.#snapshots = snapshots;
  }

  static async open(over: { readonly limitBytes?: number; readonly list?: readonly string[] } = {}): Promise<Farm> {
    const database = await freshDatabase();
    await addHostType(database.sql, "linux");
    const folder = await mkdtemp(join(tmpdir(), "from-snapshot-"));
    const coordinator = coordinatorId("P000000001");
    await addCoordinator(database.sql, coordinator);
    const blobs = await Blobs.open(folder, NOON);
    const { sql, bus } = database;
    const snapshots = new Snapshots({ sql, bus, clock: systemClock, log: quiet, blobs, coordinator });
    const policy = { elsewhereFirst: ms(100), pause: () => ms(1) };
    const farm = await TestFarm.open(database, { coordinator, policy, snapshots });
    const recipe = {
      ...testRecipe("linux-amd64", "linux", ["make", "link"]),
      tests: testsSpec(over.list ?? ["one"]),
      snapshot: { exclude: [], limitBytes: over.limitBytes ?? 1e6, keepMs: 3_600_000 },
    };
    const commitId = await addCommit(sql, "tool", "c0ffee".padEnd(40, "0"));
    const common = { repo: "tool", commitId, committedAt: NOON, branch: "main", head: true } as const;
    const [build] = await insertPlanned(
      sql,
      [{ ...common, recipe, provenance: "submitted", class: "post-submit" }],
      NOON,
    );
    if (!build) throw new Error("not planned");
    return new Farm({ database, farm, folder, build: build.id }, snapshots);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.farm[Symbol.asyncDispose]();
    await this.#snapshots[Symbol.asyncDispose]();
    await this.database[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true });
  }

  machine(name: string, options: Omit<FakeMachineOptions, "id" | "machineId" | "name"> = {}) {
    return this.farm.connect("linux", name, options);
  }

  async blob(): Promise<string | undefined> {
    const [row] = await this.database.sql.query<{ blob: string }>("select blob from snapshot");
    return row?.blob;
  }

  /** Resolves when the build has ended, and so has the keeping of its tree. */
  async kept(): Promise<string> {
    await endedBuild(this.database, this.build);
    return vi.waitFor(async () => {
      const blob = await this.blob();
      if (!blob) throw new Error("not kept");
      return blob;
    });
  }

  async rebuilt(): Promise<BuildId> {
    const { build: again } = await this.farm.builds.rebuild(this.build, "somebody");
    expect((await endedBuild(this.database, again)).outcome).toBe("success");
    return again;
  }

  async steps(build: BuildId): Promise<string[]> {
    const rows = await this.database.sql.query<{ text: string }>(
      `select a.number || '.' || s.number || ' ' || s.name || ' ' || coalesce(s.outcome, '-') as text
       from step s join attempt a on a.id = s.attempt_id where a.build_id = $1 order by a.number, s.number`,
      [build],
    );
    return rows.map(({ text }) => text);
  }

  async firstLog(build: BuildId): Promise<string> {
    const [row] = await this.database.sql.query<{ id: LogId }>(
      `select s.log_id as id from step s join attempt a on a.id = s.attempt_id
       where a.build_id = $1 and s.number = 0 order by a.number desc`,
      [build],
    );
    const parts: Buffer[] = [];
    if (row) for await (const part of this.farm.logs.read(row.id)) parts.push(part);
    return Buffer.concat(parts).toString();
  }

  async note(build: BuildId): Promise<string | null | undefined> {
    const [row] = await this.database.sql.query<{ note: string | null }>(
      "select snapshot_note as note from attempt where build_id = $1 order by number desc",
      [build],
    );
    return row?.note;
  }
}

const FROM_SOURCE = ["1.0 source success", "1.1 make success", "1.2 link success", "1.3 tests success"];
const FROM_SNAPSHOT = ["1.0 snapshot success", "1.3 tests success"];

test("a rebuild starts from the snapshot: a step in place of source and steps, whose log says which", async () => {
  await using farm = await Farm.open();
  const first = await farm.machine("first");
  await farm.kept();
  expect([await farm.steps(farm.build), await farm.note(farm.build)]).toEqual([
    FROM_SOURCE,
    expect.stringMatching(/^kept: /),
  ]);
  await farm.farm.disconnect(first);
  const second = await farm.machine("second", { skippedLinks: 1 });
  const again = await farm.rebuilt();
  expect(await farm.steps(again)).toEqual(FROM_SNAPSHOT);
  expect(second.calls.filter((call) => /make|link|writetgz/.test(call))).toEqual(["writetgz src"]);
  expect(String(second.archives.get("src"))).toBe("the made tree");
  expect(await farm.firstLog(again)).toMatch(
    /^linux-amd64 at c0ffee0+\n\nsnapshot: 0 KiB, made .* ago by build 1 on first\nunpacked on second in .*\nnot unpacked: 1 symbolic link .*\n$/,
  );
  expect([
    await farm.note(again),
    (await farm.database.sql.query<{ uses: number }>("select uses from snapshot"))[0]?.uses,
  ]).toEqual([null, 1]);
});

test("a retry starts from the snapshot that the lost attempt had made", async () => {
  await using farm = await Farm.open();
  const leaver = await farm.machine("leaver", {
    script: ({ cmd }) => (cmd === "run" ? { ends: "hang" } : {}),
  });
  await vi.waitFor(async () => expect(await farm.blob()).toBeDefined());
  const stayer = await farm.machine("stayer");
  leaver.hangUp();
  expect((await endedBuild(farm.database, farm.build)).outcome).toBe("success");
  expect((await farm.steps(farm.build)).slice(-2)).toEqual(["2.0 snapshot success", "2.3 tests success"]);
  expect(stayer.calls.some((call) => call.startsWith("exec make"))).toBe(false);
});

test("a damaged snapshot is not trusted: the attempt does the steps itself, says so, and keeps a new one", async () => {
  await using farm = await Farm.open();
  const machine = await farm.machine("m");
  const blob = await farm.kept();
  await truncate(join(farm.folder, blob), 5);
  machine.calls.length = 0;
  const again = await farm.rebuilt();
  expect(await farm.steps(again)).toEqual(FROM_SOURCE);
  expect(machine.calls.slice(0, 5)).toEqual([
    "removeall .",
    "writetgz src",
    "removeall src",
    "writetgz src",
    "exec make",
  ]);
  expect(await farm.firstLog(again)).toMatch(
    /\nnot used: the snapshot is damaged: it has 5 of 13 bytes; the steps are done on m instead\n\nwrote tool to m in /,
  );
  await vi.waitFor(async () => expect(await farm.note(again)).toMatch(/^kept: /));
});

test("a snapshot that cannot be kept is noted, and the build is as good as ever", async () => {
  await using farm = await Farm.open({ limitBytes: 5 });
  await farm.machine("m");
  expect((await endedBuild(farm.database, farm.build)).outcome).toBe("success");
  await vi.waitFor(async () =>
    expect(await farm.note(farm.build)).toMatch(/^not kept: .* larger than the limit of 0 KiB/),
  );
  expect(await farm.steps(await farm.rebuilt())).toEqual(FROM_SOURCE);
});

test("an upload slower than the tests: the verdict does not wait for it, the machine is free once it is over", async () => {
  await using farm = await Farm.open();
  const rest = Promise.withResolvers<void>();
  const slow = async function* () {
    yield Buffer.from("the made ");
    await rest.promise;
    yield Buffer.from("tree");
  };
  await farm.machine("m", { snapshot: () => ({ body: Readable.from(slow()), excluded: true }) });
  expect((await endedBuild(farm.database, farm.build)).outcome).toBe("success");
  expect([farm.farm.released, await farm.blob()]).toEqual([[], undefined]);
  rest.resolve();
  await farm.kept();
  await vi.waitFor(() => expect(farm.farm.released).toEqual([{ name: "m", how: "clean" }]));
});

test("layOutAttempt() puts back what it took out, and does nothing for who is not the driver any more", async () => {
  await using farm = await Farm.open();
  const { sql } = farm.database;
  await farm.machine("m", { script: ({ cmd }) => (cmd === "make" ? { ends: "hang" } : {}) });
  await vi.waitFor(async () => expect((await farm.steps(farm.build)).length).toBe(4));
  const [row] = await sql.query<{ id: number; epoch: number }>(
    "select a.id, l.epoch from attempt a join lease l on l.id = a.lease_id",
  );
  await sql.query("update step set started_at = null, log_id = null where number > 0");
  const attempt = { attempt: row?.id, epoch: row?.epoch } as Parameters<typeof layOutAttempt>[1];
  const names = async () => (await farm.steps(farm.build)).map((text) => text.split(" ")[1]);
  const steps = ["make", "link"];
  expect([await layOutAttempt(sql, attempt, "snapshot", steps), await names()]).toEqual([true, ["snapshot", "tests"]]);
  expect([await layOutAttempt(sql, attempt, "source", steps), await names()]).toEqual([
    true,
    ["source", "make", "link", "tests"],
  ]);
  const stale = { ...attempt, epoch: attempt.epoch + 1 };
  expect([await layOutAttempt(sql, stale, "snapshot", steps), (await names()).length]).toEqual([false, 4]);
});
