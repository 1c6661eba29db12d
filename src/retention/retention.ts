/**
 * Forgetting what is old, as the configuration says how long things are kept.
 *
 * Once per PASS_EVERY: logs of what succeeded, then other logs, then builds and what hung on them, then what machines and people left behind. All
 * of it in bites of a few rows, each in a transaction of its own; after a bite the database has at least four times as long for everybody
 * else. One coordinator at a time: whoever finds another at it leaves the pass to that one. A pass that is broken off is begun anew. A bite that
 * fails ends its kind for this pass, and no other: the failure is logged, and the next pass tries again.
 */
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type EpochMs, epochMs, type Ms, minutes, ms, plus } from "../farm/ids.ts";
import { deleteRecordings } from "../store/recordings.ts";
import {
  deleteAudit,
  deleteBranches,
  deleteBuilds,
  deleteChanges,
  deleteCommits,
  deleteInstances,
  deleteLogins,
  deleteNotices,
  deleteProbes,
  deleteRecipes,
  deleteSessions,
  deleteTestTimes,
  deleteTokens,
  dropLogs,
  emptyLogs,
  mayBite,
  trimBranches,
  type Walk,
} from "../store/retention.ts";
import type { Sql } from "../store/sql.ts";

const PASS_EVERY: Ms = minutes(60);
/** After a start: machines and people come first. */
const FIRST_PASS: Ms = minutes(5);
/** Rows per bite, where one row drags few others along, and where it drags many. */
export const ROWS = 500;
const BUILDS = 200;
/** Times the length of a bite, within limits. */
const REST = 4;
const SHORTEST_REST: Ms = ms(20);
const LONGEST_REST: Ms = ms(10_000);

export interface RetentionDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "retention" | "repos">;
}

/** How many of each went. */
export type Deleted = Record<string, number>;

/** What a bite did; `more`: the next one of the same kind finds something, too. */
interface Bite {
  readonly deleted: number;
  readonly more: boolean;
}

/** The others of its kind would fail alike. */
const FAILED: Bite = { deleted: 0, more: false };

export class Retention implements AsyncDisposable {
  readonly #deps: RetentionDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  constructor(deps: RetentionDeps) {
    this.#deps = deps;
    this.#loop = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stop;
    for (let wait = FIRST_PASS; !signal.aborted; wait = PASS_EVERY) {
      await clock.sleep(wait, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        const deleted = await retentionPass(this.#deps, signal);
        if (deleted && Object.keys(deleted).length > 0) log.info(deleted, "Deleted what was old");
      } catch (error) {
        if (!signal.aborted) log.warn({ error: messageOf(error) }, "Could not delete what is old; trying again later");
      }
    }
  }
}

/** One pass over everything. undefined: another coordinator is at it. Rejects when `signal` aborts. */
export async function retentionPass(deps: RetentionDeps, signal: AbortSignal): Promise<Deleted | undefined> {
  const { sql, clock, log } = deps;
  const deleted: Deleted = {};
  for (const [what, bite] of bites(deps, clock.now())) {
    for (let more = true; more; ) {
      signal.throwIfAborted();
      const began = clock.monotonic();
      const done = await sql
        .tx(async (tx) => ((await mayBite(tx)) ? bite(tx) : undefined))
        .catch((error: unknown) => {
          signal.throwIfAborted();
          log.warn({ what, error: messageOf(error) }, "Could not delete some of what is old; trying again later");
          return FAILED;
        });
      if (!done) return undefined;
      if (done.deleted > 0) deleted[what] = (deleted[what] ?? 0) + done.deleted;
      more = done.more;
      const rest = (clock.monotonic() - began) * REST;
      await clock.sleep(ms(Math.min(LONGEST_REST, Math.max(SHORTEST_REST, rest))), signal);
    }
  }
  return deleted;
}

/** The kinds of bites in their order. A walk keeps its place in memory, so that what stays is looked at once per pass. */
function bites(
  { config, clock }: RetentionDeps,
  now: EpochMs,
): (readonly [what: string, bite: (tx: Sql) => Promise<Bite>])[] {
  const { retention, repos } = config();
  const before = (span: Ms): EpochMs => plus(now, ms(-span));
  const upTo = (limit: number, work: (tx: Sql) => Promise<number>) => async (tx: Sql) => {
    const deleted = await work(tx);
    return { deleted, more: deleted >= limit };
  };
  const { greenLogsMs, logsMs, buildsMs, gomotesMs, sessionsMs, auditMs, noticesMs } = retention;
  let build: Walk = { at: epochMs(0), id: 0 };
  let commit = 0;
  let recipe = "";
  let recording = 0;
  return [
    ["greenLogs", upTo(BUILDS, (tx) => dropLogs(tx, true, before(greenLogsMs), BUILDS, clock.now()))],
    ["logs", upTo(BUILDS, (tx) => dropLogs(tx, false, before(logsMs), BUILDS, clock.now()))],
    ["logChunks", upTo(ROWS, (tx) => emptyLogs(tx, ROWS))],
    ...repos.map(
      ({ name, history }) =>
        ["history", upTo(ROWS, (tx) => trimBranches(tx, name, history, before(buildsMs), ROWS))] as const,
    ),
    [
      "builds",
      async (tx) => {
        const { next, deleted } = await deleteBuilds(tx, build, before(buildsMs), BUILDS);
        if (next) build = next;
        return { deleted, more: next !== undefined };
      },
    ],
    ["branches", upTo(ROWS, (tx) => deleteBranches(tx, before(buildsMs), ROWS))],
    [
      "commits",
      async (tx) => {
        const { next, deleted } = await deleteCommits(tx, commit, before(buildsMs), ROWS);
        if (next !== undefined) commit = next;
        return { deleted, more: next !== undefined };
      },
    ],
    [
      "recipes",
      async (tx) => {
        const { next, deleted } = await deleteRecipes(tx, recipe, ROWS);
        if (next !== undefined) recipe = next;
        return { deleted, more: next !== undefined };
      },
    ],
    ["testTimes", upTo(ROWS, (tx) => deleteTestTimes(tx, before(buildsMs), ROWS))],
    [
      "recordings",
      async (tx) => {
        const kept = ms(Math.min(logsMs, gomotesMs));
        const { next, deleted } = await deleteRecordings(tx, recording, before(kept), ROWS);
        if (next !== undefined) recording = next;
        return { deleted, more: next !== undefined };
      },
    ],
    [
      "gomotes",
      async (tx) => {
        const { instances, commands } = await deleteInstances(tx, before(gomotesMs), ROWS);
        return { deleted: instances, more: instances >= ROWS || commands >= ROWS };
      },
    ],
    ["probes", upTo(ROWS, (tx) => deleteProbes(tx, before(sessionsMs), ROWS))],
    ["sessions", upTo(ROWS, (tx) => deleteSessions(tx, before(sessionsMs), ROWS))],
    ["changes", upTo(ROWS, (tx) => deleteChanges(tx, before(sessionsMs), ROWS))],
    ["logins", upTo(ROWS, (tx) => deleteLogins(tx, clock.now(), ROWS))],
    ["tokens", upTo(ROWS, (tx) => deleteTokens(tx, before(sessionsMs), ROWS))],
    ["audit", upTo(ROWS, (tx) => deleteAudit(tx, before(auditMs), ROWS))],
    ["notices", upTo(ROWS, (tx) => deleteNotices(tx, before(noticesMs), ROWS))],
  ];
}
