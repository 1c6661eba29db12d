import type { Readable } from "node:stream";
import { gunzipSync } from "node:zlib";
import { expect, test, vi } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { minutes, type SessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { at } from "../store/sql.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON, type TestMachine } from "../store/testing/farm.ts";
import { PROBE_LIMIT, type Probed, probe } from "./probe.ts";
import { PROBE_EVERY, Probes } from "./probes.ts";

/** A machine that keeps what is written and prints it; `trouble` breaks one of its calls. */
function machine(trouble: "cleanUp" | "writeTgz" | "exec" | "wrong word" | "hangs" | "" = ""): Probed & {
  readonly calls: string[];
  readonly hangUp: () => void;
} {
  const calls: string[] = [];
  const gone = new AbortController();
  let content = "";
  const broken = (call: string): void => {
    calls.push(call);
    if (trouble === call) throw new FarmError("machine-broken", `${call} answered 500`);
  };
  return {
    name: "board",
    gone: gone.signal,
    calls,
    hangUp: () => gone.abort(new FarmError("machine-gone", "hung up")),
    client: {
      cleanUp: async () => broken("cleanUp"),
      writeTgz: async (_dir: string, body: Readable) => {
        const chunks: Buffer[] = [];
        for await (const chunk of body) chunks.push(chunk as Buffer);
        content = gunzipSync(Buffer.concat(chunks)).subarray(512).toString("latin1").split("\n")[0] ?? "";
        broken("writeTgz");
        return { skippedLinks: 0 };
      },
      exec: async ({ cmd, args }, onOutput) => {
        broken("exec");
        if (trouble === "hangs") await new Promise(() => {});
        calls.push(`${cmd} ${args.join(" ")}`);
        await onOutput(Buffer.from(trouble === "wrong word" ? "hello\n" : `${content}\r\n`));
        return { state: "ok", ok: true };
      },
    },
  };
}

const never = new AbortController().signal;

test("probe() empties, writes, runs the platform's shell and reads back", async () => {
  const well = machine();
  await probe(well, ["cmd", "/c"], new FakeClock(), never);
  expect(well.calls).toEqual(["cleanUp", "writeTgz", "exec", "cmd /c type hello.txt"]);
});

test("probe() says what failed", async () => {
  const failing = async (board: Probed): Promise<string> =>
    probe(board, ["sh", "-ec"], new FakeClock(), never).then(
      () => "well",
      (error: FarmError) => error.message,
    );
  expect(await failing(machine("cleanUp"))).toBe("emptying its work folder: cleanUp answered 500");
  expect(await failing(machine("writeTgz"))).toBe("writing a small tree: writeTgz answered 500");
  expect(await failing(machine("exec"))).toBe('running "cat hello.txt": exec answered 500');
  expect(await failing(machine("wrong word"))).toBe('running "cat hello.txt": it did not print what was written');
  const left = machine();
  left.hangUp();
  expect(await failing(left)).toBe("emptying its work folder: hung up");
});

test("probe() has a limit", async () => {
  const clock = new FakeClock();
  const board = machine("hangs");
  const hanging = probe(board, ["sh", "-ec"], clock, never);
  const said = hanging.catch((error: FarmError) => error.message);
  await vi.waitFor(() => expect(board.calls).toContain("exec"));
  await clock.advance(PROBE_LIMIT);
  expect(await said).toBe('running "cat hello.txt": it took longer than 120 s');
});

async function setAside(database: TestDatabase): Promise<TestMachine> {
  const { sql } = database;
  await addHostType(sql, "linux");
  const board = await addMachine(sql, "linux", "board", await addCoordinator(sql));
  await sql.query(
    "update machine set set_aside_at = $1, set_aside_until = $2, set_aside_reason = 'failed', set_aside_times = 1",
    [at(NOON), new Date(NOON + 300_000)],
  );
  return board;
}

function probing(database: TestDatabase, clock: FakeClock, board: TestMachine, probed: Probed | undefined) {
  const released: string[] = [];
  const withdrawn: SessionId[] = [];
  const probes = new Probes({
    sql: database.sql,
    bus: database.bus,
    clock,
    log: quiet,
    coordinator: "P000000001" as never,
    withdraw: (session) => withdrawn.push(session),
    machine: (session) => (session === board.id ? probed : undefined),
    release: async (_session, how) => {
      released.push(how);
    },
    shell: () => ["sh", "-ec"],
  });
  return { probes, released, withdrawn };
}

const state = async (database: TestDatabase) =>
  (
    await database.sql.query<object>(
      `select set_aside_at is not null as aside, set_aside_until as until, probe_error as error,
         (select string_agg(state || ' ' || coalesce(end_reason, ''), ', ') from lease) as lease from machine`,
    )
  )[0];

test("Probes give a machine back that is well, and set one aside for longer that is not", async () => {
  for (const [trouble, after] of [
    ["", { aside: false, until: null, error: null, lease: "ended well again" }],
    [
      "exec",
      {
        aside: true,
        until: NOON + 310_000 + 600_000,
        error: 'running "cat hello.txt": exec answered 500',
        lease: 'ended running "cat hello.txt": exec answered 500',
      },
    ],
  ] as const) {
    await using database = await freshDatabase();
    const clock = new FakeClock(NOON);
    const board = await setAside(database);
    const run = probing(database, clock, board, machine(trouble));
    await using _probes = run.probes;
    await run.probes.look();
    expect(await state(database)).toMatchObject({ aside: true, lease: null }); // too early
    await vi.waitFor(() => expect(clock.sleeping).toBe(1));
    clock.jump(minutes(5));
    await clock.advance(PROBE_EVERY); // the loop looks by itself
    await vi.waitFor(async () => expect(await state(database)).toEqual(after));
    await vi.waitFor(() => expect(run.released).toEqual([trouble === "" ? "clean" : "broken"]));
    expect(run.withdrawn).toEqual([board.id]);
  }
});

test("a probe whose machine is gone, or that the coordinator breaks off, says nothing of the machine", async () => {
  for (const probed of [undefined, machine("hangs")]) {
    await using database = await freshDatabase();
    const clock = new FakeClock(NOON);
    const board = await setAside(database);
    const run = probing(database, clock, board, probed);
    await clock.advance(minutes(6));
    await run.probes.look();
    if (probed) await vi.waitFor(() => expect(probed.calls).toContain("writeTgz"));
    await run.probes[Symbol.asyncDispose]();
    await vi.waitFor(async () =>
      expect(await state(database)).toMatchObject({
        aside: true,
        until: NOON + 360_000 + 60_000,
        error: null,
        lease: `ended ${probed ? "the coordinator was stopped" : "the machine went away"}`,
      }),
    );
  }
});
