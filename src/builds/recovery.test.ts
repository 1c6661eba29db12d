import pg from "pg";
import { expect, test, vi } from "vitest";
import { type BuildId, type CoordinatorId, coordinatorId, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { coordinatorEnded, coordinatorSeen } from "../store/coordinators.ts";
import { claimLease } from "../store/leases.ts";
import type { Sql } from "../store/sql.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addCoordinator, addHostType, addMachine, NOON, testRecipe } from "../store/testing/farm.ts";
import { insertPlanned } from "./insert.ts";
import { DEAD_AFTER, HEARTBEAT, Recovery } from "./recovery.ts";
import { CutSql, SlowSql } from "./testing/cut-sql.ts";
import { TestFarm } from "./testing/farm.ts";

function recovery(
  { sql, bus, heart = sql }: Pick<TestDatabase, "sql" | "bus"> & { readonly heart?: Sql },
  coordinator: CoordinatorId,
  alone: boolean,
  clock = systemClock,
): Recovery {
  return new Recovery({
    sql,
    heart,
    bus,
    clock,
    log: quiet,
    coordinator,
    alone,
    endInstance: async () => {},
    lost: () => {},
  });
}

async function planMany(database: TestDatabase, count: number, tag: string): Promise<BuildId[]> {
  await addHostType(database.sql, "linux");
  const ids: BuildId[] = [];
  for (let i = 0; i < count; i++) {
    const commitId = await addCommit(database.sql, "tool", `${tag}-${i}`.padEnd(40, "x"));
    const recipe = testRecipe("linux-amd64", "linux", ["make", i % 2 === 0 ? "pass" : "fail"]);
    const planned = { repo: "tool", commitId, committedAt: NOON, branch: "main", head: true, recipe } as const;
    const builds = await insertPlanned(
      database.sql,
      [{ ...planned, provenance: "submitted", class: "post-submit" }],
      systemClock.now(),
    );
    ids.push(...builds.map((build) => build.id));
  }
  return ids;
}

const script = ({ cmd }: { cmd: string }) => ({
  output: [`output of ${cmd}\n`],
  state: cmd === "fail" ? "exit status 1" : "ok",
});

async function verdicts(database: TestDatabase, ids: readonly BuildId[]) {
  return database.sql.query<{
    id: BuildId;
    state: string;
    outcome: string;
    verdicts: number;
    attempts: number;
    finished: number;
  }>(
    `select b.id, b.state, b.outcome, count(*) filter (where a.outcome in ('success', 'failure')) as verdicts,
       count(*) as attempts, count(*) filter (where a.state = 'ended') as finished
     from build b join attempt a on a.build_id = b.id where b.id = any ($1::bigint[]) group by b.id order by b.id`,
    [ids],
  );
}

test("a coordinator that is killed at any of 36 points loses no build, and none is counted twice", async () => {
  await using database = await freshDatabase();
  let n = 0;
  const cuts = Array.from({ length: 36 }, (_, i) => ({ nth: 1 + (i >> 1), after: i % 2 === 1 }));
  for (const { nth, after } of cuts) {
    const round = `k${nth}${after ? "after" : "before"}`;
    const ids = await planMany(database, 5, round);
    const name = (suffix: string) => `P${String(n++).padStart(8, "0")}${suffix}`;
    const sql = new CutSql(database.sql, nth, after);
    {
      await using victim = await TestFarm.open(database, { coordinator: name("v"), sql });
      for (const machine of ["m1", "m2"]) await victim.connect("linux", `${round}-${machine}`, { script });
      await vi.waitFor(() => expect(sql.cut).toBe(true), { timeout: 5000, interval: 2 });
    }
    const next = name("n");
    await using farm = await TestFarm.open(database, { coordinator: next });
    await recovery(database, coordinatorId(next), true).look();
    for (const machine of ["m3", "m4"]) await farm.connect("linux", `${round}-${machine}`, { script });
    await vi.waitFor(
      async () => {
        const rows = await verdicts(database, ids);
        expect(
          rows.map(({ state, outcome, verdicts: v, attempts, finished }) => [state, outcome, v, attempts - finished]),
        ).toEqual([
          ["ended", "success", 1, 0],
          ["ended", "failure", 1, 0],
          ["ended", "success", 1, 0],
          ["ended", "failure", 1, 0],
          ["ended", "success", 1, 0],
        ]);
      },
      { timeout: 8000, interval: 10 },
    );
  }
  const left = await database.sql.query(
    `select 'lease' as what, id from lease where state <> 'ended' union all select 'log', l.id from log l where not ended`,
  );
  expect(left).toEqual([]);
}, 60_000);

test("an attempt that cannot be given up keeps recovery from no other, and is given up at a later look", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const ids = await planMany(database, 3, "poisoned");
  const dead = await addCoordinator(sql, "P0000dead");
  const self = await addCoordinator(sql, "P0000self");
  for (const name of ["m1", "m2", "m3"]) await claimLease(sql, (await addMachine(sql, "linux", name, dead)).id, NOON);
  await sql.query(
    `create function poisoned() returns trigger as $$ begin raise 'disk of index "x" is bad'; end $$ language plpgsql`,
  );
  await sql.query(
    `create trigger poisoned before update on attempt for each row when (old.build_id = ${ids[0]}) execute function poisoned()`,
  );
  await using looking = recovery(database, self, true);
  const again = "select build_id as id from attempt where number = 2 order by 1";
  expect(await looking.look()).toBe(2);
  expect((await sql.query<{ id: number }>(again)).map(({ id }) => id)).toEqual(ids.slice(1));
  await sql.query("drop trigger poisoned on attempt");
  expect(await looking.look()).toBe(1);
  expect((await sql.query<{ id: number }>(again)).map(({ id }) => id)).toEqual(ids);
});

test("a session that a coordinator opened with its last breath, after it was found dead, is closed; an open one of the living stays", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "linux");
  const self = await addCoordinator(sql, "P000000001");
  const other = await addCoordinator(sql, "P000000002");
  const dead = await addCoordinator(sql, "P000000003");
  await coordinatorEnded(sql, dead, NOON);
  await addMachine(sql, "linux", "m1", dead);
  await addMachine(sql, "linux", "m2", other);
  await using looking = recovery(database, self, false);
  await looking.look();
  expect(
    await sql.query(
      "select m.name, s.close_reason as reason from session s join machine m on m.id = s.machine_id order by m.name",
    ),
  ).toEqual([
    { name: "m1", reason: "the coordinator ended" },
    { name: "m2", reason: null },
  ]);
});

test("a slow coordinator whose build was given to another cannot write its verdict", async () => {
  await using database = await freshDatabase();
  const [id] = await planMany(database, 1, "slow");
  const go = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const waitToGo = () => {
    started.resolve();
    return go.promise;
  };
  await using slow = await TestFarm.open(database, { coordinator: "P0000slow" });
  await slow.connect("linux", "m1", {
    script: () => ({ started: waitToGo, state: "exit status 1", output: ["late\n"] }),
  });
  await started.promise;
  await using farm = await TestFarm.open(database, { coordinator: "P0000next" });
  expect(await recovery(database, farm.coordinator, true).look()).toBe(1);
  await farm.connect("linux", "m2", { script });
  const rows = () => verdicts(database, [id as BuildId]);
  await vi.waitFor(async () =>
    expect((await rows())[0]).toMatchObject({ state: "ended", outcome: "success", verdicts: 1 }),
  );
  go.resolve();
  await vi.waitFor(() => expect(slow.builds.running).toBe(0));
  expect((await rows())[0]).toMatchObject({ outcome: "success", verdicts: 1, attempts: 2 });
  expect(await coordinatorSeen(database.sql, slow.coordinator, systemClock.now())).toBe(false);
});

test("beside others, a coordinator is dead only when its sign of life stood still for us, whatever the wall clocks do", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const ours = await addCoordinator(database.sql, "P0000ours", clock.now());
  const other = await addCoordinator(database.sql, "P000other", clock.now());
  const alive = async () => {
    const [row] = await database.sql.query<{ ended_at: number | null }>(
      "select ended_at from coordinator where id = $1",
      [other],
    );
    return row?.ended_at === null;
  };
  const watch = recovery(database, ours, false, clock);
  await watch.look();
  clock.jump(seconds(86_400)); // somebody set our clock
  await watch.look();
  expect(await alive()).toBe(true);
  for (let i = 0; i < 10; i++) {
    await clock.advance(HEARTBEAT);
    await coordinatorSeen(database.sql, other, clock.now());
    await watch.look();
  }
  expect(await alive()).toBe(true);
  for (let waited = 0; waited < DEAD_AFTER; waited += HEARTBEAT) {
    expect(await alive()).toBe(true);
    await clock.advance(HEARTBEAT);
    await watch.look();
  }
  expect(await alive()).toBe(false);
});

test("a database that was away for all kills nobody, whoever is served first when it is back", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const ours = await addCoordinator(database.sql, "P0000ours", clock.now());
  const other = await addCoordinator(database.sql, "P000other", clock.now());
  const watch = recovery(database, ours, false, clock);
  for (let i = 0; i < 2; i++) {
    await clock.advance(HEARTBEAT);
    await watch.look();
  }
  await clock.advance(seconds(60)); // for so long a look waited, and so did the other's sign of life
  await watch.look();
  expect(await coordinatorSeen(database.sql, other, clock.now())).toBe(true);
});

test("a coordinator gives signs of life while it takes over what others left, however long that takes", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const ours = await addCoordinator(database.sql, "P0000ours", clock.now());
  const sql = new SlowSql(database.sql, "as restarted");
  const watch = recovery({ sql, bus: database.bus }, ours, true, clock);
  const started = watch.start();
  await vi.waitFor(() => expect(sql.waiting).toBe(1));
  for (let i = 0; i < 6; i++) {
    await clock.advance(HEARTBEAT);
    await vi.waitFor(async () => {
      const [row] = await database.sql.query("select seen_at from coordinator where id = $1", [ours]);
      expect(row).toEqual({ seen_at: clock.now() });
    });
  }
  sql.go();
  await started;
  await watch[Symbol.asyncDispose]();
});

test("connections to the database that break all the time lose nothing and count nothing twice", async () => {
  await using database = await freshDatabase();
  await using killer = await openKiller(database);
  await using farm = await TestFarm.open(database);
  const ids = await planMany(database, 24, "cut");
  for (let i = 0; i < 8; i++) await farm.connect("linux", `m${i}`, { script });
  await vi.waitFor(
    async () => {
      await killer.cutAll();
      const rows = await verdicts(database, ids);
      expect(rows.filter(({ state }) => state === "ended").length).toBe(24);
    },
    { timeout: 20_000, interval: 15 },
  );
  const rows = await verdicts(database, ids);
  expect(rows.map(({ outcome, verdicts: v, attempts }) => [outcome, v, attempts])).toEqual(
    ids.map((_, i) => [i % 2 === 0 ? "success" : "failure", 1, 1]),
  );
});

async function openKiller(database: TestDatabase): Promise<AsyncDisposable & { cutAll(): Promise<void> }> {
  const client = new pg.Client({ ...database.config, application_name: "killer" });
  await client.connect();
  return {
    cutAll: async () => {
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name <> 'killer' and backend_type = 'client backend'`,
      );
    },
    [Symbol.asyncDispose]: () => client.end(),
  };
}
