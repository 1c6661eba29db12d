/** A build that a newer commit overtakes hands on to it since when it waits. */
import { expect, onTestFinished, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { BuilderInput } from "../config/input.ts";
import { type EpochMs, minutes, plus } from "../farm/ids.ts";
import { branchHeads, recordBranch, recordRepo } from "../store/commits.ts";
import { claimLease } from "../store/leases.ts";
import type { Sql } from "../store/sql.ts";
import { freshDatabase } from "../store/testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON } from "../store/testing/farm.ts";
import { planFound } from "./plan-found.ts";

const HOST = "host-linux-amd64-x";
const STARVES = 6 * 60;

const at = (minute: number): EpochMs => plus(NOON, minutes(minute));
const hashOf = (minute: number): string => (minute + 1).toString(16).padStart(40, "0");

/** Two repositories whose builders may change. */
class Story {
  readonly sql: Sql;
  config: FarmConfig;

  constructor(sql: Sql, config: FarmConfig) {
    this.sql = sql;
    this.config = config;
  }

  /** Puts one more commit on the branch. */
  async push(minute: number, repo = "app"): Promise<void> {
    await this.sql.tx(async (tx) => {
      await recordRepo(tx, repo, `/${repo}`);
      const was = (await branchHeads(tx, repo)).get("main");
      const commit = {
        hash: hashOf(minute),
        parents: was === undefined ? [] : [was],
        authorName: "A",
        authorEmail: "a@example.org",
        committedAt: at(minute),
        message: "m",
      };
      const found = { repo, branch: "main", was, commits: [commit], keepTail: true };
      const commits = (await recordBranch(tx, found, at(minute))) ?? [];
      await planFound(tx, this.config, { repo, branch: "main", commits }, at(minute));
    });
  }

  /** Changes the configuration, and plans the newest commit again. */
  async plan(minute: number, pushed: number): Promise<void> {
    const commits = await this.sql.query<{ id: number }>("select id from commit where hash = $1", [hashOf(pushed)]);
    const head = { id: commits[0]?.id ?? 0, hash: hashOf(pushed), committedAt: at(pushed) };
    await planFound(this.sql, this.config, { repo: "app", branch: "main", commits: [head] }, at(minute));
  }

  /** The builds that wait, each with the minute at which its wait of at most 6 hours began. */
  async waiting(): Promise<string[]> {
    const rows = await this.sql.query<{ builder: string; starves_at: EpochMs }>(
      `select b.builder, l.starves_at from build b join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id
       where l.state = 'wanted' order by b.builder, b.id`,
    );
    return rows.map((row) => `${row.builder} since ${(row.starves_at - NOON) / 60_000 - STARVES}`);
  }

  /** Lets a machine take the build that `builder` waits for. */
  async begin(builder: string): Promise<void> {
    await this.sql.query(
      `with b as (update build set state = 'running' where builder = $1 and state = 'scheduled' returning id),
         a as (update attempt set state = 'running' from b where build_id = b.id returning lease_id)
       update lease set state = 'held' from a where lease.id = a.lease_id`,
      [builder],
    );
  }
}

function farm(...builders: readonly Partial<BuilderInput>[]): FarmConfig {
  return checkFarm({
    repos: ["app", "lib"].map((name) => ({ name, url: `/${name}`, depth: 1 })),
    hosts: [{ hostType: HOST, trust: "team" }],
    builders: builders.map((builder) => ({
      name: "linux-amd64",
      host: HOST,
      steps: ["make"],
      repos: ["app"],
      ...builder,
    })),
  });
}

async function story(...builders: readonly Partial<BuilderInput>[]): Promise<Story> {
  const database = await freshDatabase();
  onTestFinished(() => database[Symbol.asyncDispose]());
  await addHostType(database.sql, HOST);
  return new Story(database.sql, farm(...builders));
}

test.each(["newest", "batch"] as const)(
  "%s: a commit starves when what it overtook would have, of the same builder",
  async (superseded) => {
    const told = await story({ name: "linux-amd64-a", superseded }, { name: "linux-amd64-b", superseded });
    await told.push(0);
    await told.push(5);
    expect(await told.waiting()).toEqual(["linux-amd64-a since 0", "linux-amd64-b since 0"]);
    await told.begin("linux-amd64-a");
    await told.push(10);
    await told.push(15);
    expect(await told.waiting()).toEqual(["linux-amd64-a since 10", "linux-amd64-b since 0"]);
  },
);

test.each(["newest", "batch"] as const)("%s: builders that share one busy machine take turns", async (superseded) => {
  const names = ["a", "b", "c"].map((name) => `linux-amd64-${name}`);
  const told = await story(...names.map((name) => ({ name, superseded })));
  const { sql } = told;
  const machine = await addMachine(sql, HOST, "one", await addCoordinator(sql));
  const ran: string[] = [];
  for (let minute = 0; minute < STARVES + 60; minute += 5) {
    await told.push(minute);
    if (minute % 10 > 0) continue; // it works on the last one
    await sql.query("update lease set state = 'ended' where state = 'held'");
    const { lease } = await claimLease(sql, machine.id, at(minute));
    const [build] = await sql.query<{ builder: string }>(
      `with a as (update attempt set state = 'running' where lease_id = $1 returning build_id)
       update build set state = 'running' from a where id = a.build_id returning builder`,
      [lease?.id],
    );
    ran.push(build?.builder ?? "");
  }
  const turns = ran.map((_, turn) => names[turn % names.length]);
  expect(ran).toEqual(turns);
});

test("what is planned by a changed configuration waits since the same time", async () => {
  const told = await story({ name: "linux-amd64-a" }, { name: "linux-amd64-b" });
  await told.push(0);
  told.config = farm({ name: "linux-amd64-a", env: { X: "1" } }, { name: "linux-amd64-b" });
  await told.plan(7, 0);
  expect(await told.waiting()).toEqual(["linux-amd64-a since 0", "linux-amd64-b since 0"]);
});

test("a pair waits since the same time whichever of the two repositories moves", async () => {
  const against = { repo: "lib", branches: ["main"] };
  const sources = [{ dir: "src", commit: "own" } as const, { dir: "lib", commit: "other" } as const];
  const told = await story({ superseded: "newest", against, sources });
  await told.push(1, "lib");
  await told.push(2);
  await told.push(3, "lib");
  expect(await told.waiting()).toEqual(["linux-amd64 since 2"]);
  await told.push(4);
  expect(await told.waiting()).toEqual(["linux-amd64 since 2"]);
});
