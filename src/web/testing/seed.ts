/**
 * A farm with a bit of everything for tests of pages: green and red builders, a retry, a rebuild that passed, things that run and wait, machines that
 * are idle, busy, away and drained, and text of every kind that can stand in a name or a message.
 */
import { checkFarm } from "../../config/check.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Sql } from "../../store/sql.ts";

export const HOSTILE = `<script>alert(1)</script> "quoted" 'and' & \u202egnp.exe שלום 🚜`;
/** The same without what a configuration refuses. */
export const MARKUP = HOSTILE.replace("\u202e", "");
export const LONG = `a-very-long-name-${"x".repeat(180)}`;

const HOSTS = [
  "host-linux-amd64-shed",
  "host-linux-riscv64-lent",
  "host-darwin-arm64-shelf",
  "host-freebsd-amd64-attic",
];
const BUILDERS = [
  "linux-amd64",
  "linux-amd64-race",
  "linux-386",
  "linux-riscv64",
  "darwin-arm64",
  "darwin-arm64-longtest",
  "freebsd-amd64",
  "windows-amd64",
];

export function seedConfig(): FarmConfig {
  return checkFarm({
    repos: [
      { name: "app", url: "https://example.org/app.git", branches: ["main", "release-*"] },
      { name: "tools", url: "https://example.org/tools.git" },
    ],
    hosts: HOSTS.map((hostType, i) => ({
      hostType,
      expect: i + 1,
      trust: i === 1 ? "community" : "team",
      owners: [{ name: i === 1 ? MARKUP : `Owner ${i}`, contact: `owner${i}@example.org` }],
      notes: i === 1 ? "A board on a shelf, be kind to it." : "",
    })),
    builders: BUILDERS.map((name) => ({
      name,
      host: hostOf(name),
      ...(name === "windows-amd64" ? { branches: "release-*" } : {}),
      ...(name === "freebsd-amd64" ? { knownIssues: [1234, "https://example.org/issues/9"] } : {}),
      steps: [
        { name: "make", command: "make" },
        { name: "test", command: "make test" },
      ],
      notes: name === "linux-386" ? MARKUP : "",
    })),
  });
}

function hostOf(builder: string): string {
  if (builder.includes("riscv64")) return HOSTS[1] ?? "";
  if (builder.startsWith("darwin")) return HOSTS[2] ?? "";
  if (builder.startsWith("freebsd")) return HOSTS[3] ?? "";
  return HOSTS[0] ?? "";
}

export interface Seeded {
  readonly config: FarmConfig;
  readonly hashes: readonly string[]; // newest first
  readonly failed: number;
  readonly failedLog: number;
  readonly running: number;
  readonly runningLog: number;
  readonly waiting: number;
  readonly retried: number;
  /** Overtaken before it began. */
  readonly skipped: number;
  readonly machine: { readonly id: number; readonly name: string; readonly hostType: string };
}

const MINUTE = 60_000;

/** Writes rows directly, as the farm would have; `now` is the end of the story. */
export async function seedFarm(sql: Sql, now: number, commits: number = 30): Promise<Seeded> {
  const config = seedConfig();
  const t = (minutesAgo: number): Date => new Date(now - minutesAgo * MINUTE);
  const one = async (text: string, params: unknown[]): Promise<number> =>
    Number((await sql.query<{ id: number }>(`${text} returning id`, params))[0]?.id);
  await sql.query(
    `insert into coordinator (id, host, pid, version, started_at, seen_at) values ('P000000001', 'farm', 1, '0.1.0', $1, $2)`,
    [t(9000), t(0)],
  );
  for (const host of config.hosts) {
    await sql.query(`insert into host_type (name, trust, expect, configured) values ($1, $2, $3, true)`, [
      host.hostType,
      host.trust,
      host.expect,
    ]);
  }
  await sql.query(
    `insert into machine_key (id, host_type, machine, sha256, made_at, expires_at) values ('K000000001', $1, 'riverboard', '\\x01', $2, $3)`,
    [HOSTS[1], t(90_000), t(-90_000)],
  );
  const machines = new Map<string, number>();
  const sessions = new Map<string, string>();
  const names: [string, string, "open" | "away" | "drained"][] = [
    [HOSTS[0] ?? "", "shed-1", "open"],
    [HOSTS[0] ?? "", "shed-2", "open"],
    [HOSTS[0] ?? "", LONG, "open"],
    [HOSTS[1] ?? "", "riverboard", "open"],
    [HOSTS[1] ?? "", HOSTILE, "away"],
    [HOSTS[2] ?? "", "macmini", "open"],
    [HOSTS[3] ?? "", "attic", "drained"],
  ];
  for (const [i, [hostType, name, how]] of names.entries()) {
    const id = await one(
      `insert into machine (host_type, name, key_id, first_seen_at, last_seen_at, agent, version, agent_digest, platform, address, drained_at, drain_note)
       values ($1, $2, $3, $4, $5, $6, 29, $7, $8, $9, $10, $11)`,
      [
        hostType,
        name,
        name === "riverboard" ? "K000000001" : null,
        t(50_000),
        t(how === "away" ? 300 : 0),
        i === 5 ? "original" : "barnraiser",
        i === 5 ? null : "ab".repeat(32),
        "linux/riscv64 Debian 13, 4 cores, 8 GiB",
        `203.0.113.${i}:40${i}00`,
        how === "drained" ? t(200) : null,
        how === "drained" ? "new disk" : null,
      ],
    );
    machines.set(name, id);
    const session = (n: number): string => `${String(i).repeat(16)}${n}`.padEnd(32, "0");
    await sql.query(
      `insert into session (id, machine_id, coordinator_id, address, opened_at, closed_at, close_reason) values
       ($1, $4, 'P000000001', $5, $6, $7, 'stopped answering: 2 keep-alives missed'), ($2, $4, 'P000000001', $5, $8, $9, 'hung up'), ($3, $4, 'P000000001', $5, $10, $11, $12)`,
      [
        session(1),
        session(2),
        session(3),
        id,
        `203.0.113.${i}:40${i}00`,
        t(40_000),
        t(30_000),
        t(29_000),
        t(3000),
        t(2900),
        how === "away" ? t(300) : null,
        how === "away" ? "hung up" : null,
      ],
    );
    sessions.set(name, session(3));
  }
  await sql.query(
    `insert into machine_change (machine_id, at, field, was, became) values ($1, $2, 'version', '28', '29'), ($1, $3, 'platform', $4, $5)`,
    [machines.get("riverboard"), t(20_000), t(10_000), "Debian 12", "Debian 13"],
  );

  await sql.query(
    `insert into repo (name, url, fetched_at) values ('app', 'https://example.org/app.git', $1), ('tools', 'https://example.org/tools.git', $1)`,
    [t(0.2)],
  );
  await sql.query(`update repo set error = 'could not resolve host', error_since = $1 where name = 'tools'`, [t(60)]);
  const hashes: string[] = [];
  const ids: number[] = [];
  for (let n = 0; n < commits; n++) {
    const hash = `${(n * 2654435761 + 7).toString(16).padStart(8, "0").slice(-8)}${"0123456789abcdef".repeat(2)}`;
    const message =
      n === commits - 2 ? `${HOSTILE}\n\nBody with <b>markup</b>.` : `Fix the parser, part ${n}\n\nIt did not parse.`;
    ids.push(
      await one(
        `insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at) values ('app', $1, $2, $3, 'a@example.org', $4, $5, $4)`,
        [hash, hashes.slice(-1), n % 3 ? "A. Author" : "بناء المزرعة", t((commits - n) * 20), message],
      ),
    );
    hashes.push(hash);
    await sql.query(
      `insert into branch (repo, name, head, moved_at) values ('app', 'main', $1, $2) on conflict (repo, name) do update set head = $1, moved_at = $2`,
      [hash, t((commits - n) * 20)],
    );
    await sql.query(`insert into branch_commit (repo, branch, position, commit_id) values ('app', 'main', $1, $2)`, [
      n + 1,
      ids.at(-1),
    ]);
  }
  const recipe = {
    hostType: "host-linux-amd64-x",
    env: ["GO_BUILDER_NAME=x", "NPM_TOKEN=x"],
    sourceDir: "app",
    steps: [],
  };
  await sql.query("insert into recipe (digest, body) values ('r', $1)", [JSON.stringify(recipe)]);

  let rank = 0;
  const log = async (text: string, ended: boolean): Promise<number> => {
    const data = Buffer.from(text);
    const id = await one(`insert into log (length, lines, ended) values ($1, $2, $3)`, [
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
  };
  const build = async (b: {
    commit: number;
    builder: string;
    state: string;
    outcome?: string;
    machine?: string;
    rebuildOf?: number;
    reason?: string;
    minutesAgo: number;
    text?: string;
  }): Promise<{ id: number; log: number }> => {
    const ended = b.state === "ended";
    const began = b.state === "scheduled" ? null : t(b.minutesAgo - 0.1);
    const end = ended ? t(b.minutesAgo - 3.2) : null;
    const host = hostOf(b.builder);
    const failed = b.outcome === "failure" ? "test" : null;
    const id = await one(
      `insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, reason, failed_step, rebuild_of, requested_by, created_at, started_at, ended_at)
       values ('app', $1, 'main', $2, $3, 'r', 'submitted', 2, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
      [
        ids[b.commit],
        b.builder,
        host,
        b.state,
        b.outcome ?? null,
        b.reason ?? null,
        failed,
        b.rebuildOf ?? null,
        b.rebuildOf ? "operator" : null,
        t(b.minutesAgo),
        began,
        end,
      ],
    );
    const machine = b.machine ?? names.find(([type]) => type === host)?.[1] ?? "";
    const state = ended ? "ended" : b.state === "running" ? "held" : "wanted";
    const lease = await one(
      `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, held_at, ended_at)
       values ('build', 2, $1, 'submitted', $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        host,
        --rank,
        t(b.minutesAgo),
        t(b.minutesAgo - 600),
        state,
        state === "wanted" ? null : sessions.get(machine),
        state === "wanted" ? null : machines.get(machine),
        state === "wanted" ? null : "P000000001",
        began,
        end,
      ],
    );
    if (b.reason && b.outcome !== "infra_failure") {
      const lost = await one(
        `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, machine_id, held_at, ended_at) values ('build', 2, $1, 'submitted', 0, $2, $2, 'ended', $3, $2, $2)`,
        [host, t(b.minutesAgo), machines.get("shed-2")],
      );
      await sql.query(
        `insert into attempt (build_id, number, lease_id, machine_id, state, outcome, reason, created_at, started_at, ended_at) values ($1, 1, $2, $3, 'ended', 'infra_failure', 'the machine hung up', $4, $4, $5)`,
        [id, lost, machines.get("shed-2"), t(b.minutesAgo), t(b.minutesAgo - 0.05)],
      );
    }
    const attempt = await one(
      `insert into attempt (build_id, number, lease_id, machine_id, state, outcome, reason, created_at, started_at, ended_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        id,
        b.reason && b.outcome !== "infra_failure" ? 2 : 1,
        lease,
        state === "wanted" ? null : machines.get(machine),
        ended ? "ended" : b.state === "running" ? "running" : "waiting",
        b.outcome ?? null,
        b.outcome === "infra_failure" ? b.reason : null,
        t(b.minutesAgo),
        began,
        end,
      ],
    );
    let last = 0;
    for (const [number, name] of ["source", "make", "test"].entries()) {
      const open = b.state === "scheduled" || (b.state === "running" && number === 2);
      const begins = b.state === "scheduled" ? null : t(b.minutesAgo - 0.1 - number);
      last = begins === null ? 0 : await log(number === 2 ? (b.text ?? "ok\n") : `${name} done\n`, ended);
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
          open ? null : t(b.minutesAgo - 0.1 - number - (number === 2 ? 1.1 : 1)),
        ],
      );
    }
    return { id, log: last };
  };

  const skip = async (id: number, minutesAgo: number): Promise<number> => {
    const params = [id, `overtaken by ${hashes[commits - 5]?.slice(0, 8)} before it began`, t(minutesAgo)];
    await sql.query(
      `with b as (update build set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3 where id = $1 returning id),
         a as (update attempt set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3 from b where build_id = b.id returning attempt.id, lease_id),
         s as (delete from step using a where attempt_id = a.id)
       update lease set state = 'ended', end_reason = $2, ended_at = $3 from a where lease.id = a.lease_id`,
      params,
    );
    return id;
  };

  let failed = { id: 0, log: 0 };
  let [retried, skipped, green, culprit] = [0, 0, 0, 0];
  for (let n = 0; n < commits - 1; n++) {
    for (const [b, builder] of BUILDERS.entries()) {
      if (builder === "windows-amd64") continue;
      const red =
        (builder === "linux-amd64" && n >= commits - 4) || builder === "freebsd-amd64" || (n * 7 + b * 3) % 31 === 0;
      const infra = !red && builder !== "linux-amd64-race" && (n * 5 + b) % 47 === 0;
      const again = builder === "linux-386" && n === commits - 3;
      const minutesAgo = Math.max(5, (commits - n) * 20 - 6);
      if (builder === "linux-386" && n === commits - 6) {
        skipped = await skip((await build({ commit: n, builder, state: "scheduled", minutesAgo })).id, minutesAgo - 5);
        continue;
      }
      const made = await build({
        commit: n,
        builder,
        state: "ended",
        outcome: red || again ? "failure" : infra ? "infra_failure" : "success",
        minutesAgo,
        ...(infra
          ? { reason: "3 machines hung up" }
          : builder === "linux-amd64-race" && n === commits - 2
            ? { reason: "tried again elsewhere" }
            : {}),
        ...(red ? { text: failing(n) } : {}),
      });
      if (builder === "linux-amd64" && n === commits - 2) failed = made;
      if (builder === "linux-amd64" && n === commits - 5) green = made.id;
      if (builder === "linux-amd64" && n === commits - 4) culprit = made.id;
      if (builder === "linux-amd64-race" && n === commits - 2) retried = made.id;
      if (again)
        await build({ commit: n, builder, state: "ended", outcome: "success", rebuildOf: made.id, minutesAgo: 20 });
    }
  }
  if (culprit !== 0)
    await sql.query(
      `insert into standing (repo, branch, builder, kind, red_build, red_commit, green_build, green_commit, between, changed_at)
       values ('app', 'main', 'linux-amd64', 'commit', $1, $2, $3, $4, 0, $5)`,
      [culprit, ids[commits - 4], green, ids[commits - 5], t(60)],
    );
  const nothing = {
    config,
    hashes: [],
    failed: 0,
    failedLog: 0,
    running: 0,
    runningLog: 0,
    waiting: 0,
    retried: 0,
    skipped: 0,
  };
  const machine = { id: machines.get("riverboard") ?? 0, name: "riverboard", hostType: HOSTS[1] ?? "" };
  if (commits === 0) return { ...nothing, machine };
  const newest = commits - 1;
  const running = await build({
    commit: newest,
    builder: "linux-riscv64",
    state: "running",
    machine: "riverboard",
    minutesAgo: 2.2,
    text: "=== RUN TestOne\n\u001b[32mok\u001b[0m one\n",
  });
  await build({
    commit: newest,
    builder: "darwin-arm64",
    state: "running",
    machine: "macmini",
    minutesAgo: 1.5,
    text: "compiling\n",
  });
  await build({
    commit: newest,
    builder: "linux-amd64",
    state: "running",
    machine: "shed-1",
    minutesAgo: 0.8,
    text: "compiling\n",
  });
  const waiting = await build({
    commit: newest,
    builder: "darwin-arm64-longtest",
    state: "scheduled",
    minutesAgo: 1.4,
  });
  await build({ commit: newest, builder: "freebsd-amd64", state: "scheduled", minutesAgo: 1.4 });
  return {
    config,
    hashes: hashes.toReversed(),
    failed: failed.id,
    failedLog: failed.log,
    running: running.id,
    runningLog: running.log,
    waiting: waiting.id,
    retried,
    skipped,
    machine,
  };
}

/** 1,300 lines of a test run whose reason is not in the last line. */
function failing(n: number): string {
  const lines: string[] = [];
  for (let i = 1; i <= 1290; i++)
    lines.push(i % 40 === 0 ? `\u001b[32m✓\u001b[0m suite ${i / 40} passed` : `  checking case ${i} of part ${n}`);
  lines.push(
    "\u001b[1;31mparser_test.c:41: error: expected 3, got 4\u001b[0m",
    "  in parse_number()",
    "  in parse_file()",
    "<b>not markup</b> & \u202eright to left",
    "make: *** [test] Error 2",
    "make: leaving directory",
  );
  return `${lines.join("\n")}\n`;
}

/** Gives a build of the seed a list of tests: failed, unschedulable, flaky, running and plain ones, and names of every kind. */
export async function seedTests(sql: Sql, build: number, machine: number, log: number, count = 250): Promise<void> {
  const [group] = await sql.query<{ id: number }>(
    `insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, status, started_at, ended_at)
     select $1, a.lease_id, $2, $3, '{1}', 'n', 'ended', 'exit status 1', now(), now() from attempt a where a.build_id = $1 order by number limit 1
     returning id`,
    [build, machine, log],
  );
  await sql.query(
    `insert into test (build_id, number, name, expected_ms, state, outcome, failures, losses, group_id, duration_ms, from_byte, to_byte,
       failed_group, failed_from, failed_to)
     select $1, n,
       case n when 1 then 'parser/TestQuotes' when 2 then $4 when 3 then 'net/TestLost' when 4 then $5 else 'pkg/Test' || n end,
       case when n % 3 = 0 then null else n * 10 end, case n when 6 then 'running' else 'ended' end,
       case n when 1 then 'failure' when 2 then 'failure' when 3 then 'unschedulable' when 4 then 'flaky' when 5 then 'skipped' when 6 then null else 'success' end,
       case when n in (1, 2) then 2 when n = 4 then 1 else 0 end, case n when 3 then 3 else 0 end, $3::bigint, n * 11, 0, 200,
       case when n in (1, 2, 4) then $3::bigint end, case when n in (1, 2, 4) then 0 end, case when n in (1, 2, 4) then 200 end
     from generate_series(1, $2::integer) n`,
    [build, count, group?.id, `${HOSTILE} ${LONG}`, "unicode/Тест \u202e naïve 🙂"],
  );
  await sql.query(
    `insert into test_run (build_id, listed_at, total, waiting, running, failed, flaky, known_ms, unknown) values ($1, now(), $2, 0, 1, 3, 1, 0, 0)`,
    [build, count],
  );
}
