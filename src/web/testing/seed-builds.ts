/**
 * Writes builds of the seed as the farm would: lease, attempt, steps with their logs; and one build that was overtaken.
 */
import type { SeededCommits } from "./seed-commits.ts";
import { hostOf } from "./seed-config.ts";
import { firstOf, type SeededMachines } from "./seed-machines.ts";
import type { Story } from "./story.ts";

export interface BuildToSeed {
  readonly commit: number;
  readonly builder: string;
  readonly state: string;
  readonly outcome?: string;
  readonly machine?: string;
  readonly rebuildOf?: number;
  readonly reason?: string;
  readonly minutesAgo: number;
  readonly text?: string;
}

export interface SeededBuild {
  readonly id: number;
  /** The log of its last step. */
  readonly log: number;
}

export class BuildSeeder {
  readonly #story: Story;
  readonly #commits: SeededCommits;
  readonly #machines: SeededMachines;
  #rank = 0;

  constructor(story: Story, commits: SeededCommits, machines: SeededMachines) {
    this.#story = story;
    this.#commits = commits;
    this.#machines = machines;
  }

  /** Writes the recipe that all builds have. */
  async recipe(): Promise<void> {
    const recipe = {
      hostType: "host-linux-amd64-x",
      env: ["GO_BUILDER_NAME=x", "NPM_TOKEN=x"],
      sourceDir: "app",
      steps: [],
    };
    await this.#story.sql.query("insert into recipe (digest, body) values ('r', $1)", [JSON.stringify(recipe)]);
  }

  async build(b: BuildToSeed): Promise<SeededBuild> {
    const { sql, at, insert } = this.#story;
    const machines = this.#machines;
    const ended = b.state === "ended";
    const began = b.state === "scheduled" ? null : at(b.minutesAgo - 0.1);
    const end = ended ? at(b.minutesAgo - 3.2) : null;
    const host = hostOf(b.builder);
    const failed = b.outcome === "failure" ? "test" : null;
    const id = await insert(
      `insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, reason, failed_step, rebuild_of, requested_by, created_at, started_at, ended_at)
       values ('app', $1, 'main', $2, $3, 'r', 'submitted', 2, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
      [
        this.#commits.ids[b.commit],
        b.builder,
        host,
        b.state,
        b.outcome ?? null,
        b.reason ?? null,
        failed,
        b.rebuildOf ?? null,
        b.rebuildOf ? "operator" : null,
        at(b.minutesAgo),
        began,
        end,
      ],
    );
    const machine = b.machine ?? firstOf(host);
    const state = ended ? "ended" : b.state === "running" ? "held" : "wanted";
    const lease = await insert(
      `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, held_at, ended_at)
       values ('build', 2, $1, 'submitted', $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        host,
        --this.#rank,
        at(b.minutesAgo),
        at(b.minutesAgo - 600),
        state,
        state === "wanted" ? null : machines.get(machine)?.session,
        state === "wanted" ? null : machines.get(machine)?.id,
        state === "wanted" ? null : "P000000001",
        began,
        end,
      ],
    );
    if (b.reason && b.outcome !== "infra_failure") {
      const lost = await insert(
        `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, machine_id, held_at, ended_at) values ('build', 2, $1, 'submitted', 0, $2, $2, 'ended', $3, $2, $2)`,
        [host, at(b.minutesAgo), machines.get("shed-2")?.id],
      );
      await sql.query(
        `insert into attempt (build_id, number, lease_id, machine_id, state, outcome, reason, created_at, started_at, ended_at) values ($1, 1, $2, $3, 'ended', 'infra_failure', 'the machine closed the connection', $4, $4, $5)`,
        [id, lost, machines.get("shed-2")?.id, at(b.minutesAgo), at(b.minutesAgo - 0.05)],
      );
    }
    const attempt = await insert(
      `insert into attempt (build_id, number, lease_id, machine_id, state, outcome, reason, created_at, started_at, ended_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        id,
        b.reason && b.outcome !== "infra_failure" ? 2 : 1,
        lease,
        state === "wanted" ? null : machines.get(machine)?.id,
        ended ? "ended" : b.state === "running" ? "running" : "waiting",
        b.outcome ?? null,
        b.outcome === "infra_failure" ? b.reason : null,
        at(b.minutesAgo),
        began,
        end,
      ],
    );
    let last = 0;
    for (const [number, name] of ["source", "make", "test"].entries()) {
      const open = b.state === "scheduled" || (b.state === "running" && number === 2);
      const begins = b.state === "scheduled" ? null : at(b.minutesAgo - 0.1 - number);
      last = begins === null ? 0 : await this.#log(number === 2 ? (b.text ?? "ok\n") : `${name} done\n`, ended);
      await sql.query(
        `insert into step (attempt_id, number, name, log_id, status, outcome, started_at, ended_at) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
        [
          attempt,
          number,
          name,
          last || null,
          open ? null : number === 2 && failed ? "exit status 2" : "ok",
          open ? null : number === 2 ? (b.outcome ?? null) : "success",
          begins,
          open ? null : at(b.minutesAgo - 0.1 - number - (number === 2 ? 1.1 : 1)),
        ],
      );
    }
    return { id, log: last };
  }

  /** Ends a build that waits as overtaken by commit `by`. */
  async skip(id: number, by: number, minutesAgo: number): Promise<number> {
    const { sql, at } = this.#story;
    const params = [id, `overtaken by ${this.#commits.hashes[by]?.slice(0, 8)} before it began`, at(minutesAgo)];
    await sql.query(
      `with b as (update build set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3 where id = $1 returning id),
         a as (update attempt set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3 from b where build_id = b.id returning attempt.id, lease_id),
         s as (delete from step using a where attempt_id = a.id)
       update lease set state = 'ended', end_reason = $2, ended_at = $3 from a where lease.id = a.lease_id`,
      params,
    );
    return id;
  }

  async #log(text: string, ended: boolean): Promise<number> {
    const { sql, insert } = this.#story;
    const data = Buffer.from(text);
    const id = await insert(`insert into log (length, lines, ended) values ($1, $2, $3)`, [
      data.length,
      text.split("\n").length - 1,
      ended,
    ]);
    if (data.length > 0)
      await sql.query(
        `insert into log_chunk (log_id, at, line, length, packed, data) values ($1, 0, 0, $2, false, $3)`,
        [id, data.length, data],
      );
    return id;
  }
}
