import { cp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import { epochMs, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { openPool, PooledSql } from "./connection.ts";
import { DataFolder } from "./data-folder.ts";
import { openDatabase, PATIENCE } from "./database.ts";
import { migrate } from "./migrate.ts";
import { at } from "./sql.ts";
import { systemClock } from "./system-clock.ts";
import { freshDatabase, quiet } from "./testing/database.ts";
import { reachableFolder } from "./testing/reachable-folder.ts";

async function temporary(): Promise<string> {
  const folder = await reachableFolder(join(tmpdir(), "barnraiser-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test("query() gives bigint as number, timestamptz as epoch milliseconds, bytea and jsonb as they are", async () => {
  await using database = await freshDatabase();
  const rows = await database.sql.query(
    "select 9007199254740991::bigint as n, $1::timestamptz as t, $2::bytea as b, $3::jsonb as j, '{1,2}'::bigint[] as a",
    [at(epochMs(1_700_000_000_123)), Buffer.from([0, 255]), JSON.stringify({ x: [1] })],
  );
  expect(rows).toEqual([
    { n: 9007199254740991, t: 1_700_000_000_123, b: Buffer.from([0, 255]), j: { x: [1] }, a: [1, 2] },
  ]);
});

test("tx() commits what resolves and rolls back what throws", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const insert = "insert into host_type (name, trust, configured) values ($1, 'team', true)";
  await sql.tx((tx) => tx.query(insert, ["kept"]));
  await expect(
    sql.tx(async (tx) => {
      await tx.query(insert, ["dropped"]);
      throw new Error("no");
    }),
  ).rejects.toThrow("no");
  expect(await sql.query("select name from host_type")).toEqual([{ name: "kept" }]);
});

test("a server that is killed comes back, and calls made meanwhile succeed", async () => {
  const data = await temporary();
  await using database = await openDatabase({ data, clock: systemClock, log: quiet });
  await database.sql.query("insert into host_type (name, trust, configured) values ('before', 'team', true)");
  process.kill(database.server?.pid ?? 0, "SIGKILL");
  await database.sql.query("insert into host_type (name, trust, configured) values ('after', 'team', true)");
  expect(await database.sql.query("select name from host_type order by 1")).toEqual([
    { name: "after" },
    { name: "before" },
  ]);
});

test("a call that waits for a server that is away ends when it is told to hurry", async () => {
  const pool = openPool({ host: await temporary(), user: "nobody" }, quiet);
  const hurry = new AbortController();
  const clock = new FakeClock();
  const sql = new PooledSql({ pool, clock, patience: PATIENCE, signal: hurry.signal });
  const call = sql.query("select 1");
  await expect.poll(() => clock.sleeping).toBe(1); // before it tries again
  hurry.abort();
  await expect(call).rejects.toMatchObject({ code: "unavailable" });
  await pool.end();
});

test("all that waits for a lock keeps no sign of life waiting", async () => {
  await using fresh = await freshDatabase();
  await using database = await openDatabase({ data: "", url: fresh.url, clock: systemClock, log: quiet });
  const holder = new pg.Client(fresh.config);
  await holder.connect();
  await holder.query("begin; lock table host_type in access exclusive mode");
  const stuck = Array.from({ length: 40 }, () => database.sql.query("select from host_type"));
  const waits = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  await vi.waitFor(async () => expect((await fresh.sql.query(waits)).length).toBe(12));
  const came: string[] = [];
  const other = database.sql.query("select 1").then(() => came.push("other"));
  await database.heart.query("select 1").then(() => came.push("heart"));
  expect(came).toEqual(["heart"]);
  await holder.end();
  await Promise.all([...stuck, other]);
});

test("the bus tells listeners here at once and those of another coordinator within moments", async () => {
  await using one = await freshDatabase();
  const { PostgresBus } = await import("./bus.ts");
  await using other = new PostgresBus(one.config, systemClock, quiet);
  const stop = new AbortController();
  const here: string[] = [];
  one.bus.subscribe("build:", (topic) => here.push(topic), stop.signal);
  const there = new Promise<string>((resolve) => other.subscribe("build:", resolve, stop.signal));
  // The other side may still be connecting, so the hint is repeated until it arrives, as state changes are.
  const repeat = setInterval(() => one.bus.publish("build:7"), 30);
  expect(await there).toBe("build:7");
  clearInterval(repeat);
  expect(here[0]).toBe("build:7");
  stop.abort();
});

test("a data folder is held by one process, which the refusal names; a dead holder's is taken over", async () => {
  const data = await temporary();
  await writeFile(join(data, "coordinator.json"), JSON.stringify({ pid: 2 ** 22 + 1, host: "elsewhere" }));
  await expect(DataFolder.take(data)).rejects.toThrow("process id 4194305 on elsewhere");
  await writeFile(join(data, "coordinator.json"), "cut off by a cra");
  {
    await using folder = await DataFolder.take(data);
    await folder.announce({ http: "http://localhost:1", https: "https://localhost:2" });
    await expect(DataFolder.take(data)).rejects.toThrow(`process id ${process.pid}`);
  }
  await using _again = await DataFolder.take(data);
});

test("a data folder that cannot be made is refused, naming it", async () => {
  const file = join(await temporary(), "file");
  await writeFile(file, "");
  for (const path of [join(file, "farm"), "/proc/barnraiser/farm", "/sys/barnraiser"]) {
    await expect(DataFolder.take(path)).rejects.toThrow(`Cannot use the data folder ${path}`);
  }
});

test("a database from a newer version is refused, saying both versions", async () => {
  await using database = await freshDatabase();
  await database.sql.query("insert into schema_version (version, name, md5, run_at) values (999, 'later', 'x', now())");
  await expect(migrate(database.config)).rejects.toThrow(/schema is version 999, this program knows \d+/);
});

/** Our migrations and one more with `text`: their folder, and the number of the last one. */
async function oneMore(text: string): Promise<{ folder: string; next: number }> {
  const folder = await temporary();
  const own = fileURLToPath(new URL("./sql", import.meta.url));
  await cp(own, folder, { recursive: true });
  const next = (await readdir(own)).length + 1;
  await writeFile(join(folder, `${String(next).padStart(3, "0")}.do.next.sql`), text);
  return { folder, next };
}

test("a migration that is in the way of a coordinator at work, and that in its, is tried again", async () => {
  await using database = await freshDatabase();
  const { folder, next } = await oneMore(
    "alter table machine add column next text; alter table build add column next text;",
  );
  const work = new pg.Client(database.config);
  await work.connect();
  try {
    await work.query("begin; set local deadlock_timeout = '20s'; lock table build in row exclusive mode");
    const migrated = migrate(database.config, folder);
    const waits = "select from pg_locks where relation = 'build'::regclass and not granted";
    await vi.waitFor(async () => expect((await database.sql.query(waits)).length).toBe(1));
    await work.query("lock table machine in row exclusive mode"); // waits until the migration gives up
    await work.query("commit");
    await migrated;
    expect(await database.sql.query("select version from schema_version order by version desc limit 1")).toEqual([
      { version: next },
    ]);
  } finally {
    await work.end();
  }
});

test("a migration that waits for a transaction keeps nobody else from the table, and says after a minute that it cannot", async () => {
  await using database = await freshDatabase();
  const { folder } = await oneMore("alter table machine add column next text;");
  const work = new pg.Client(database.config);
  await work.connect();
  try {
    await work.query("begin; select from machine");
    const clock = new FakeClock();
    const migrated = migrate(database.config, folder, clock);
    const failed = expect(migrated).rejects.toThrow("for 60 s, others have held locks on its tables");
    const waits = "select from pg_locks where relation = 'machine'::regclass and not granted";
    await vi.waitFor(async () => expect((await database.sql.query(waits)).length).toBe(1));
    expect(await database.sql.query("select from machine")).toEqual([]);
    expect((await work.query("select from machine")).rowCount).toBe(0);
    await vi.waitFor(() => expect(clock.sleeping).toBe(1));
    await clock.advance(seconds(61));
    await failed;
  } finally {
    await work.end();
  }
});
