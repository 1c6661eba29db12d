/** The tests of an attempt, run with what a coordinator has: its logs, its snapshots, its database. */
import { randomBytes } from "node:crypto";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import type { Ms } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import type { Logs } from "../logs/logs.ts";
import type { Begun } from "../store/attempts.ts";
import type { Sql } from "../store/sql.ts";
import type { UnderWay } from "./drive.ts";
import { helpersOf } from "./help.ts";
import type { BuildMachine } from "./machine.ts";
import type { Snapshots } from "./snapshots.ts";
import { type Keeping, runTests, type TestsEnd } from "./tests-step.ts";
import type { Turns } from "./turns.ts";
import type { TestsDeps } from "./work-tests.ts";

export interface TestsOfDeps {
  readonly clock: Clock;
  readonly sql: Sql;
  readonly bus: Bus;
  readonly logs: Pick<Logs, "writer" | "read">;
  readonly snapshots: Pick<Snapshots, "keep" | "find" | "restore">;
  /** How long a failed test waits for another machine. */
  readonly elsewhereFirst?: Ms;
  readonly patiently: <T>(call: () => Promise<T>) => Promise<T>;
  readonly turns: Turns;
}

export function testsDeps({ clock, sql, bus, logs, patiently, turns, elsewhereFirst }: TestsOfDeps): TestsDeps {
  return {
    clock,
    sql,
    bus,
    patiently,
    turns,
    open: ({ log }, begun) => ({
      writer: logs.writer(log),
      before: begun ? logs.read(log.id, 0, log.length) : undefined,
    }),
    nonce: () => randomBytes(16).toString("hex"),
    ...(elsewhereFirst !== undefined && { elsewhereFirst }),
  };
}

/** Runs the tests of `begun` as its step `at`. */
export function testsOf(
  deps: TestsOfDeps,
  lease: Lease,
  begun: Begun,
  machine: BuildMachine,
  at: Pick<UnderWay, "number" | "log" | "writer" | "limit">,
  signal: AbortSignal,
): Promise<TestsEnd> {
  const { attempt, build, recipe } = begun;
  const { log, writer, limit, number } = at;
  if (recipe.tests === undefined) throw new FarmError("internal", `Build ${build.id} has no tests`);
  const step = {
    build,
    recipe,
    machine,
    log,
    writer,
    spec: recipe.tests,
    worker: { build: build.id, lease: lease.id, epoch: lease.epoch, machine: lease.machineId },
    helpers: helpersOf(recipe.tests, lease),
    limit,
    id: `a${attempt}.${number}`,
    before: deps.logs.read(log.id, 0, log.length),
    keep: (): Keeping => {
      const upload = deps.snapshots.keep({ ...begun, epoch: lease.epoch }, machine, signal);
      return { there: upload.kept, finish: () => upload.finish() };
    },
  };
  return runTests(testsDeps(deps), step, signal);
}
