import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { FarmInput } from "../config/input.ts";
import { type EpochMs, minutes, plus } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { drainFarm } from "../store/drain.ts";
import { configureHostTypes, drainMachine } from "../store/machines.ts";
import { at, type Sql } from "../store/sql.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addCoordinator, addMachine, NOON, type TestMachine } from "../store/testing/farm.ts";
import { knownTroubles, toldMissing } from "../store/troubles.ts";
import type { Message } from "./message.ts";
import { Watch } from "./watch.ts";

const HOST = "host-linux-amd64-a";
const input = {
  repos: [{ name: "app", url: "." }],
  hosts: [{ hostType: HOST, expect: 2, owners: [{ name: "Ann", contact: "ann@example.org" }] }],
  builders: [{ name: "linux-amd64", host: HOST, steps: ["make"] }],
  notify: { operators: ["ops@example.org"] },
} satisfies FarmInput;

const minute = (count: number): EpochMs => plus(NOON, minutes(count));

interface Bench {
  readonly database: TestDatabase;
  readonly clock: FakeClock;
  config: FarmConfig;
  problem: string | undefined;
  watch(startedAt?: EpochMs): Watch;
  /** Looks at each minute up to `until`; gives what was said, once per recipient. */
  until(watch: Watch, until: number): Promise<string[]>;
}

async function bench(database: TestDatabase): Promise<Bench> {
  const clock = new FakeClock(NOON);
  await addCoordinator(database.sql);
  const farm = {
    database,
    clock,
    config: checkFarm(input),
    problem: undefined as string | undefined,
    watch: (startedAt = minute(-60)) =>
      new Watch({
        sql: database.sql,
        bus: database.bus,
        clock,
        log: quiet,
        config: () => farm.config,
        problem: () => farm.problem,
        host: "here",
        place: () => ({ farm: "F", url: null }),
        startedAt,
      }),
    async until(watch: Watch, until: number) {
      const from = (await said(database.sql)).length;
      while (clock.now() < minute(until)) {
        clock.jump(minutes(1));
        await watch.look();
      }
      return (await said(database.sql)).slice(from);
    },
  };
  await configureHostTypes(database.sql, farm.config.hosts);
  return farm;
}

async function said(sql: Sql): Promise<string[]> {
  const rows = await sql.query<{ recipient: string; message: Message; at: number }>(
    "select recipient, message, at from notice order by id",
  );
  return rows.map(
    ({ recipient, message, at }) =>
      `${(at - NOON) / 60_000} ${recipient.replace(/@.*/, "")}: ${message.title.slice(4)}`,
  );
}

async function connect(sql: Sql, name: string): Promise<TestMachine> {
  return addMachine(sql, HOST, name, "P000000001" as never);
}

async function away(sql: Sql, machine: TestMachine, since: EpochMs): Promise<void> {
  await sql.query("update session set closed_at = $2, close_reason = 'hung up' where id = $1", [machine.id, at(since)]);
  await sql.query("update machine set last_seen_at = $2 where id = $1", [machine.machineId, at(since)]);
}

test("owner and operators hear once of a missing machine, not again after a restart, and once of its return", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  await connect(database.sql, "b");
  const a = await connect(database.sql, "a");
  await away(database.sql, a, NOON);
  await using first = farm.watch();
  expect(await farm.until(first, 40)).toEqual(["16 mail:ann: a is missing", "16 mail:ops: a is missing"]);
  expect(await toldMissing(database.sql)).toEqual([{ machine: a.machineId, toldAt: minute(16) }]);
  await first[Symbol.asyncDispose]();
  await using again = farm.watch(minute(40)); // a new process
  expect(await farm.until(again, 90)).toEqual([]);
  await connect(database.sql, "a");
  expect(await farm.until(again, 95)).toEqual(["92 mail:ann: a is back", "92 mail:ops: a is back"]);
  expect(await knownTroubles(database.sql)).toEqual([]);
});

test("coordinators that look at the same moment tell once", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  await away(database.sql, await connect(database.sql, "a"), NOON);
  await away(database.sql, await connect(database.sql, "b"), NOON);
  await using one = farm.watch();
  await using other = farm.watch();
  await one.look();
  farm.clock.jump(minutes(20));
  await Promise.all([one.look(), other.look(), one.look(), other.look()]);
  expect(await said(database.sql)).toEqual([
    "20 mail:ann: 2 machines are missing",
    "20 mail:ops: 2 machines are missing",
  ]);
});

test("after a start nobody is reported while machines are still coming back", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  await connect(database.sql, "b");
  await away(database.sql, await connect(database.sql, "a"), minute(-300));
  await using watch = farm.watch(NOON);
  expect(await farm.until(watch, 5)).toEqual([]);
  expect(await farm.until(watch, 10)).toEqual(["6 mail:ann: a is missing", "6 mail:ops: a is missing"]);
});

test("a machine that is drained, or not expected any more, is not reported; nor is its return", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  const [a, b] = [await connect(database.sql, "a"), await connect(database.sql, "b")];
  await drainMachine(database.sql, a.machineId, "on holiday", NOON);
  await away(database.sql, a, NOON);
  await using watch = farm.watch();
  expect(await farm.until(watch, 30)).toEqual([]);
  await away(database.sql, b, minute(30));
  expect(await farm.until(watch, 60)).toEqual(["46 mail:ann: b is missing", "46 mail:ops: b is missing"]);
  farm.config = checkFarm({ ...input, hosts: [{ hostType: HOST, expect: 0 }] });
  await configureHostTypes(database.sql, farm.config.hosts);
  expect(await farm.until(watch, 70)).toEqual([]);
  expect(await knownTroubles(database.sql)).toEqual([]);
});

test("the successors of a machine that was drained and retired are reported when they are missing", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  const old = await connect(database.sql, "old");
  await drainMachine(database.sql, old.machineId, "retired", NOON);
  await away(database.sql, old, NOON);
  const a = await connect(database.sql, "a");
  await connect(database.sql, "b");
  await using watch = farm.watch();
  expect(await farm.until(watch, 30)).toEqual([]);
  await away(database.sql, a, minute(30));
  expect(await farm.until(watch, 60)).toEqual(["46 mail:ann: a is missing", "46 mail:ops: a is missing"]);
});

test("while the farm is drained nobody hears of its machines", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  await using watch = farm.watch();
  await away(database.sql, await connect(database.sql, "a"), NOON);
  expect(await farm.until(watch, 20)).toHaveLength(2); // of one that is away and one that never came
  await drainFarm(database.sql, "the machine room is off", minute(20));
  expect(await farm.until(watch, 60)).toEqual([]);
  expect(await knownTroubles(database.sql)).toEqual([]);
});

test("who is added while a machine is missing hears that it is, and then that it is back", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  const full = farm.config;
  farm.config = checkFarm({ ...input, hosts: [{ hostType: HOST, expect: 2 }], notify: {} });
  await connect(database.sql, "b");
  await away(database.sql, await connect(database.sql, "a"), NOON);
  await using watch = farm.watch();
  expect(await farm.until(watch, 60)).toEqual([]);
  expect(await toldMissing(database.sql)).toEqual([]);
  farm.config = full;
  expect(await farm.until(watch, 90)).toEqual(["61 mail:ann: a is missing", "61 mail:ops: a is missing"]);
  await connect(database.sql, "a");
  expect(await farm.until(watch, 100)).toEqual(["92 mail:ann: a is back", "92 mail:ops: a is back"]);
});

test("machines that never dialled in are reported by their host type", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  await connect(database.sql, "a");
  await using watch = farm.watch();
  expect(await farm.until(watch, 30)).toEqual([
    `17 mail:ann: ${HOST} has too few machines`,
    `17 mail:ops: ${HOST} has too few machines`,
  ]);
  await connect(database.sql, "b");
  expect((await farm.until(watch, 40)).at(-1)).toBe(`32 mail:ops: ${HOST} is complete`);
});

test("a machine set aside and well again, a repository, a key and a configuration are reported to whom they concern", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const farm = await bench(database);
  const [a] = [await connect(sql, "a"), await connect(sql, "b")];
  await addCommit(sql, "app", "a".repeat(40));
  await sql.query("update repo set error = 'no route', error_since = $1", [at(minute(-29))]);
  await sql.query(
    "update machine set set_aside_at = $1, set_aside_until = $1, set_aside_reason = 'broken' where id = $2",
    [at(NOON), a.machineId],
  );
  await sql.query(
    `insert into machine_key (id, host_type, machine, sha256, made_at, expires_at, last_used_at)
     values ('K000000001', $1, 'a', 'x', $2, $3, $2)`,
    [HOST, at(NOON), at(minute(600))],
  );
  farm.problem = "2 mistakes";
  await using watch = farm.watch();
  expect(await farm.until(watch, 1)).toEqual(["1 mail:ann: 2 things need a look", "1 mail:ops: 3 things need a look"]);
  expect(await farm.until(watch, 10)).toEqual(["3 mail:ops: the changed configuration cannot be used"]);
  await sql.query("update machine set set_aside_at = null");
  await sql.query("update machine_key set revoked_at = now()");
  await sql.query("update repo set error = null, error_since = null");
  farm.problem = undefined;
  expect((await farm.until(watch, 20)).sort()).toEqual([
    "12 mail:ann: a is well again",
    "12 mail:ops: 3 things are well again",
  ]);
});

test("a hundred machines away at once are one message", async () => {
  await using database = await freshDatabase();
  const farm = await bench(database);
  farm.config = checkFarm({ ...input, hosts: [{ ...input.hosts[0], hostType: HOST, expect: 100 }] });
  await configureHostTypes(database.sql, farm.config.hosts);
  await database.sql.query("update host_type set expect = 100");
  for (let i = 0; i < 100; i++)
    await away(database.sql, await connect(database.sql, `m${i}`), plus(NOON, minutes(i / 200)));
  await using watch = farm.watch();
  expect(await farm.until(watch, 30)).toEqual([
    "16 mail:ann: 100 machines are missing",
    "16 mail:ops: 100 machines are missing",
  ]);
});
