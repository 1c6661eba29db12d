import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { type EpochMs, epochMs, type LogId, minutes, ms, plus } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { Logs } from "../logs/logs.ts";
import { deleteRecordings } from "../store/recordings.ts";
import { deleteInstances, mayBite } from "../store/retention.ts";
import { at, type Sql } from "../store/sql.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addCoordinator, addHostType, addMachine, closeSession, NOON } from "../store/testing/farm.ts";
import { Retention, ROWS, retentionPass } from "./retention.ts";

const DAY = minutes(24 * 60);
const host = "host-linux-amd64-a";
const config = checkFarm({
  repos: [{ name: "tool", url: ".", depth: 1, history: 2 }],
  hosts: [{ hostType: host }],
  builders: [{ name: "b", host, steps: ["make"] }],
  retention: {
    greenLogs: "30d",
    logs: "90d",
    builds: "365d",
    gomotes: "120d",
    sessions: "180d",
    audit: "730d",
    notices: "30d",
  },
});

const daysAgo = (days: number): EpochMs => plus(NOON, ms(-days * DAY));

/** Time that passes by itself while something rests. */
class RestlessClock extends FakeClock {
  override async sleep(span: ReturnType<typeof ms>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.jump(span);
  }
}

function pass(database: TestDatabase) {
  const deps = { sql: database.sql, clock: systemClockAt(NOON), log: quiet, config: () => config };
  return retentionPass(deps, new AbortController().signal);
}

function systemClockAt(now: EpochMs): FakeClock {
  return new RestlessClock(now);
}

interface BuildOf {
  readonly hash: string;
  readonly outcome?: string;
  readonly days: number;
  readonly builder?: string;
  readonly rebuildOf?: number;
  readonly open?: boolean;
}

const hashOf = (name: string): string => Buffer.from(name).toString("hex").padEnd(40, "0");

/** A build with lease, attempt, step and a log of one chunk, on a commit that was found when it ended. */
async function build(sql: Sql, of: BuildOf): Promise<number> {
  const hash = hashOf(of.hash);
  const when = at(daysAgo(of.days));
  const [known] = await sql.query<{ id: number }>("select id from commit where hash = $1", [hash]);
  const commit = known?.id ?? (await addCommit(sql, "tool", hash, daysAgo(of.days)));
  const recipe = `recipe of ${of.builder ?? "b"}`;
  await sql.query("insert into recipe (digest, body) values ($1, '{}') on conflict do nothing", [recipe]);
  const state = of.open ? "running" : "ended";
  const outcome = of.open ? null : (of.outcome ?? "success");
  const [row] = await sql.query<{ id: number }>(
    `insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, rebuild_of, created_at, ended_at)
     values ('tool', $1, 'main', $2, $3, $4, 'submitted', 2, $5, $6, $7, $8, $9) returning id`,
    [commit, of.builder ?? "b", host, recipe, state, outcome, of.rebuildOf ?? null, when, of.open ? null : when],
  );
  const id = row?.id ?? 0;
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state)
       values ('build', 2, $2, 'submitted', 0, $3, $3, $4) returning id
     ), a as (
       insert into attempt (build_id, number, lease_id, state, outcome, created_at, ended_at)
       select $1, 1, l.id, $5, $6, $3, $3 from l returning id
     ), lo as (
       insert into log (length, lines, ended) values (10, 0, true) returning id
     ), c as (
       insert into log_chunk (log_id, at, line, length, packed, data) select id, 0, 0, 10, false, 'xxxxxxxxxx' from lo
     )
     insert into step (attempt_id, number, name, log_id, started_at) select a.id, 0, 'source', lo.id, $3 from a, lo`,
    [id, host, when, of.open ? "held" : "ended", state === "ended" ? "ended" : "running", outcome],
  );
  return id;
}

/** The branch's history, oldest first. */
async function branch(sql: Sql, names: readonly string[]): Promise<void> {
  await sql.query(
    `insert into branch (repo, name, head, moved_at) values ('tool', 'main', $1, $2)
     on conflict (repo, name) do update set head = excluded.head`,
    [hashOf(names.at(-1) ?? ""), at(NOON)],
  );
  await sql.query(
    `insert into branch_commit (repo, branch, position, commit_id)
     select 'tool', 'main', n, c.id from unnest($1::text[]) with ordinality h (hash, n) join commit c on c.hash = h.hash`,
    [names.map(hashOf)],
  );
}

const ids = async (sql: Sql, text: string): Promise<number[]> =>
  (await sql.query<{ id: number }>(text)).map(({ id }) => id);
const withLogs = (sql: Sql) =>
  ids(
    sql,
    `select b.id from build b join attempt a on a.build_id = b.id join step s on s.attempt_id = a.id
     where exists (select from log_chunk where log_id = s.log_id) order by b.id`,
  );

async function start(database: TestDatabase): Promise<void> {
  await addCoordinator(database.sql, "P000000001", NOON);
  await addHostType(database.sql, host);
}

test("green builds lose their logs first, then the others; what is open and what a red builder's story rests on keep theirs", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  const fresh = await build(sql, { hash: "a", days: 29 });
  const green = await build(sql, { hash: "b", days: 31 });
  const red = await build(sql, { hash: "c", days: 89, outcome: "failure" });
  const oldRed = await build(sql, { hash: "d", days: 91, outcome: "failure" });
  const story = await build(sql, { hash: "e", days: 100, outcome: "failure" });
  const open = await build(sql, { hash: "f", days: 400, open: true });
  await sql.query(
    `insert into standing (repo, branch, builder, kind, red_build, red_commit, between, changed_at)
     select 'tool', 'main', 'b', 'commit', id, commit_id, 0, ended_at from build where id = $1`,
    [story],
  );
  expect(await pass(database)).toEqual({ greenLogs: 1, logs: 1, logChunks: 2 });
  expect(await withLogs(sql)).toEqual([fresh, red, story, open]);
  const logs = new Logs({ sql, bus: database.bus, clock: systemClock });
  const [dropped] = await ids(
    sql,
    `select s.log_id as id from attempt a join step s on s.attempt_id = a.id where a.build_id = ${green}`,
  );
  await expect(logs.state(dropped as LogId)).rejects.toThrow("This log was deleted on 2026-11-23");
  expect(await ids(sql, "select id from build order by id")).toEqual([fresh, green, red, oldRed, story, open]);
  expect(await pass(database)).toEqual({}); // nothing is left to do
});

test("what cannot be deleted keeps nothing of another kind, and goes in a later pass", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  const green = await build(sql, { hash: "b", days: 31 });
  await build(sql, { hash: "d", days: 91, outcome: "failure" });
  await sql.query(
    `create function poisoned() returns trigger as $$ begin raise 'disk of index "x" is bad'; end $$ language plpgsql`,
  );
  await sql.query(
    `create trigger poisoned before update on build for each row when (old.id = ${green}) execute function poisoned()`,
  );
  expect(await pass(database)).toEqual({ logs: 1, logChunks: 1 });
  await sql.query("drop trigger poisoned on build");
  expect(await pass(database)).toEqual({ greenLogs: 1, logChunks: 1 });
});

test("a log of many chunks goes in several bites", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  await build(sql, { hash: "a", days: 40 });
  await build(sql, { hash: "b", days: 40 });
  await sql.query(
    `insert into log_chunk (log_id, at, line, length, packed, data)
     select l.id, n * 10, 0, 10, false, 'x' from log l, generate_series(1, 700) n`,
  );
  expect(await pass(database)).toEqual({ greenLogs: 2, logChunks: 1402 });
  expect(await ids(sql, "select log_id as id from log_chunk")).toEqual([]);
  expect(await ids(sql, "select id from log where not emptied")).toEqual([]);
});

test("old builds go with all that they were, except for what a page still answers with", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  // Long out of the history.
  const lost = await build(sql, { hash: "lost", days: 500 });
  const again = await build(sql, { hash: "lost", days: 499, rebuildOf: lost });
  await build(sql, { hash: "lost", days: 498, rebuildOf: again });
  const lastOfBuilder = await build(sql, { hash: "lost", days: 497, builder: "retired" });
  // Old, and beyond the two newest of the branch.
  await build(sql, { hash: "older", days: 450, outcome: "failure" });
  // Still in it: the newest of the cell stays.
  const original = await build(sql, { hash: "old", days: 400, outcome: "infra_failure" });
  const cell = await build(sql, { hash: "old", days: 399, rebuildOf: original });
  const head = await build(sql, { hash: "head", days: 1 });
  const open = await build(sql, { hash: "lost", days: 600, open: true, builder: "c" });
  await sql.query("insert into recipe (digest, body) values ('nobody has it', '{}')");
  await branch(sql, ["older", "old", "head"]);
  for (let i = 0; i < 3; i++) await pass(database); // what a rebuild stood on goes once the rebuild is gone
  expect(await ids(sql, "select id from build order by id")).toEqual([lastOfBuilder, original, cell, head, open]);
  expect(await ids(sql, "select build_id as id from attempt order by id")).toEqual([
    lastOfBuilder,
    original,
    cell,
    head,
    open,
  ]);
  expect((await ids(sql, "select id from lease")).length).toBe(5);
  expect((await ids(sql, "select id from log")).length).toBe(5);
  expect(await sql.query("select digest from recipe order by digest")).toEqual([
    { digest: "recipe of b" },
    { digest: "recipe of c" },
    { digest: "recipe of retired" },
  ]);
  const hashes = await sql.query<{ hash: string }>("select hash from commit order by id");
  expect(hashes.map(({ hash }) => hash)).toEqual([hashOf("lost"), hashOf("old"), hashOf("head")]);
  expect(await ids(sql, "select position as id from branch_commit order by position")).toEqual([2, 3]);
});

test("the tests of a build go with it, their logs before; builds with very many tests go in several bites", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  for (const name of ["a", "b", "c"]) await build(sql, { hash: name, days: 400, builder: name });
  const kept = await build(sql, { hash: "a again", days: 399, builder: "a" });
  const machine = await addMachine(sql, host, "board", "P000000001" as never);
  await sql.query(
    `with l as (insert into log (length, lines, ended) select 10, 0, true from build returning id), g as (
       insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, started_at)
       select b.id, b.id, $1, l.id, '{1}', 'x', 'ended', $2
       from (select id, row_number() over () as n from build) b join (select id, row_number() over () as n from l) l using (n) returning id, build_id
     ), t as (
       insert into test (build_id, number, name, state, outcome, group_id, failed_group)
       select g.build_id, n, 'test ' || n, 'ended', 'success', g.id, g.id from g, generate_series(1, 3) n
     )
     insert into test_run (build_id, listed_at, total, waiting, known_ms, unknown) select id, $2, 15000, 0, 0, 0 from build`,
    [machine.machineId, at(NOON)],
  );
  for (let i = 0; i < 2; i++) await pass(database);
  // Each builder's newest result stays.
  expect(await ids(sql, "select id from build order by id")).toEqual([2, 3, kept]);
  for (const table of ["test_run", "test_group"])
    expect(await ids(sql, `select build_id as id from ${table} order by 1`)).toEqual([2, 3, kept]);
  expect((await ids(sql, "select number as id from test")).length).toBe(9);
  expect(await ids(sql, "select id from log where not emptied")).toEqual([]);
  expect((await ids(sql, "select id from log")).length).toBe(6);
});

test("connections, changes, probes, audit and messages go when they are old; a machine's last connection stays", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  const first = await addMachine(sql, host, "board", "P000000001" as never);
  await closeSession(sql, first.id);
  await sql.query("update session set opened_at = $1, closed_at = $1", [at(daysAgo(300))]);
  const last = await addMachine(sql, host, "board", "P000000001" as never);
  await sql.query("update session set opened_at = $1, closed_at = $1 where id = $2", [at(daysAgo(200)), last.id]);
  await sql.query(
    `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, ended_at)
     select 'probe', 3, $1, 'submitted', 0, d, d, 'ended', $2, $3, d from unnest($4::timestamptz[]) d`,
    [host, first.id, first.machineId, [at(daysAgo(200)), at(daysAgo(1))]],
  );
  const dates = [at(daysAgo(731)), at(daysAgo(181)), at(daysAgo(31)), at(daysAgo(1))];
  await sql.query(
    "insert into audit (at, who, action, subject) select d, 'o', 'drain', 'x' from unnest($1::timestamptz[]) d",
    [dates],
  );
  await sql.query(
    "insert into machine_change (machine_id, at, field) select $2, d, 'version' from unnest($1::timestamptz[]) d",
    [dates, first.machineId],
  );
  await sql.query(
    `insert into notice (at, recipient, message, next_at, state) select d, 'mail:a@b', '{}', d, s
     from unnest($1::timestamptz[]) d, unnest('{sent,dead,waiting}'::text[]) s`,
    [dates],
  );
  expect(await pass(database)).toEqual({ probes: 1, sessions: 1, changes: 2, audit: 1, notices: 6 });
  expect(await sql.query("select id from session")).toEqual([{ id: last.id }]);
});

/** An instance that ended so long ago, with `commands` that ended with it; null: it lives, and so do they. */
async function instance(sql: Sql, ended: number | null, commands: number): Promise<number> {
  const end = ended === null ? null : at(daysAgo(ended));
  const begun = at(daysAgo(ended === null ? 200 : ended + 1));
  const [row] = await sql.query<{ id: number }>(
    `with l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, ended_at)
       values ('gomote', 0, $1, 'unreviewed', 0, $2, $2, $3, $4) returning id
     )
     insert into gomote_instance (request, lease_id, name, owner, email, builder_type, host_type, coordinator_id, created_at, expires_at)
     select 'of ' || id, id, 'alice-b-0', 'U1', 'alice@example.org', 'b', $1, 'P000000001', $2, $2 from l returning id`,
    [host, begun, end === null ? "held" : "ended", end],
  );
  const id = row?.id ?? 0;
  await sql.query(
    `with c as (
       insert into gomote_command (instance_id, who, command, dir, started_at, ended_at, state)
       select $1, 'alice@example.org', 'true', '', $2, $3, case when $3::timestamptz is not null then 'ok' end from generate_series(1, $4::int) returning id
     ), r as (
       insert into gomote_recording (command_id, bytes) select id, 20000000 from c where id % 100 = 1 returning command_id
     )
     insert into gomote_recording_part (command_id, number, packed) select command_id, 0, 'x' from r`,
    [id, begun, end, commands],
  );
  return id;
}

test("instances go when they are old, what was run there before them, its recordings as logs do; what lives stays, and the audit", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  await instance(sql, 130, ROWS + 1);
  await instance(sql, 125, 100);
  const quiet = await instance(sql, 119, 3);
  await instance(sql, 121, 0);
  const recent = await instance(sql, 80, 100);
  const lives = await instance(sql, null, 100);
  await sql.query(
    "insert into audit (at, who, action, subject) values ($1, 'alice@example.org', 'gomote create', 'gomote:alice-b-0')",
    [at(daysAgo(131))],
  );
  expect(await pass(database)).toEqual({ recordings: 7, gomotes: 3 });
  expect(await ids(sql, "select id from gomote_instance order by id")).toEqual([quiet, recent, lives]);
  expect(await ids(sql, "select distinct instance_id as id from gomote_command order by 1")).toEqual([
    quiet,
    recent,
    lives,
  ]);
  expect(
    await ids(
      sql,
      "select distinct instance_id as id from gomote_recording r join gomote_command c on c.id = command_id order by 1",
    ),
  ).toEqual([recent, lives]);
  expect((await ids(sql, "select id from lease")).length).toBe(3);
  expect((await ids(sql, "select id from audit")).length).toBe(1);
  expect(await pass(database)).toEqual({});
});

test("no bite deletes more than a few commands, or recordings of more than a few bytes", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  await instance(sql, 130, 2 * ROWS + 1);
  const first = await deleteInstances(sql, daysAgo(120), ROWS);
  expect(first).toEqual({ instances: 0, commands: ROWS });
  await using second = await freshDatabase();
  await start(second);
  await instance(second.sql, 130, 2 * ROWS + 1);
  expect(await deleteRecordings(second.sql, 0, daysAgo(90), ROWS)).toEqual({ next: 301, deleted: 4 });
});

test("what a test took is forgotten when it has not passed for as long as builds are kept, in several bites", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await sql.query(
    `insert into test_time (repo, name, builder, recent, seen_at)
     select 'tool', 'renamed ' || n, 'b', array[10], $1::timestamptz from generate_series(1, $2::integer) n
     union all select 'tool', 'still there', 'b', array[10], $3`,
    [at(daysAgo(366)), ROWS + 1, at(daysAgo(364))],
  );
  expect(await pass(database)).toEqual({ testTimes: ROWS + 1 });
  expect(await sql.query("select name from test_time")).toEqual([{ name: "still there" }]);
});

test("a coordinator that finds another at it leaves the pass to that one", async () => {
  await using database = await freshDatabase();
  await start(database);
  await build(database.sql, { hash: "a", days: 40 });
  await database.sql.tx(async (tx) => {
    expect(await mayBite(tx)).toBe(true);
    expect(await pass(database)).toBeUndefined();
  });
  expect(await pass(database)).toMatchObject({ greenLogs: 1 });
});

test("a pass that is broken off leaves everything in order, and the next one goes on", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  for (let i = 0; i < 3; i++) await build(sql, { hash: `h${i}`, days: 400 });
  const stop = new AbortController();
  let bites = 0;
  const broken: Sql = {
    query: sql.query.bind(sql),
    tx: (work) => {
      if (++bites === 4) stop.abort(new Error("stopped"));
      return sql.tx(work);
    },
  };
  const deps = { sql: broken, clock: systemClockAt(NOON), log: quiet, config: () => config };
  await expect(retentionPass(deps, stop.signal)).rejects.toThrow("stopped");
  await pass(database);
  expect(await ids(sql, "select id from build")).toEqual([3]);
  expect(await ids(sql, "select log_id as id from log_chunk")).toEqual([]);
});

test("Retention makes a pass by itself, after a start", async () => {
  await using database = await freshDatabase();
  await start(database);
  await build(database.sql, { hash: "a", days: 40 });
  const done = Promise.withResolvers<object>();
  const log = { ...quiet, info: (fields: object) => done.resolve(fields) };
  await using _retention = new Retention({
    sql: database.sql,
    clock: systemClockAt(epochMs(NOON)),
    log,
    config: () => config,
  });
  expect(await done.promise).toEqual({ greenLogs: 1, logChunks: 1 });
});

test("deleting looks rows up by an index, never through a whole table that refers to them", async () => {
  await using database = await freshDatabase();
  const rows = await database.sql.query<{ key: string }>(
    `select c.conrelid::regclass || ' ' || a.attname as key
     from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
     where c.contype = 'f' and c.confrelid in ('build'::regclass, 'commit'::regclass, 'log'::regclass, 'test_group'::regclass, 'attempt'::regclass, 'lease'::regclass,
         'recipe'::regclass, 'session'::regclass, 'gomote_instance'::regclass, 'gomote_command'::regclass, 'gomote_recording'::regclass)
       and not exists (select from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1])
     order by 1`,
  );
  expect(rows).toEqual([]);
});

test("a branch that is gone for as long as builds are kept is ended: its history, the newest result of each builder on it, and itself", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await start(database);
  await build(sql, { hash: "a", days: 500 });
  await build(sql, { hash: "b", days: 450 });
  await branch(sql, ["a", "b"]);
  await pass(database);
  const left = async () => [
    (await sql.query("select from branch")).length,
    (await sql.query("select from branch_commit")).length,
    (await sql.query("select from build")).length,
  ];
  expect(await left()).toEqual([1, 2, 2]);
  await sql.query("update branch set gone_at = $1", [at(NOON)]);
  await pass(database);
  expect(await left()).toEqual([1, 2, 2]);
  await sql.query("update branch set gone_at = moved_at - interval '500 days'");
  await pass(database);
  expect(await left()).toEqual([0, 0, 0]);
});
