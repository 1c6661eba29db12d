/**
 * Chaos: three coordinators and ten machines behind a balancer, and for a while something goes wrong at every moment that a seed draws:
 * coordinators are killed, stopped in order and paused, machines are killed and paused, connections are cut, the database is restarted, builds
 * are canceled, a host type is drained. Then nothing more happens, and when the farm has come to rest these must hold:
 *
 *   every build has ended, by exactly one verdict              no lease is held or wanted, by anybody or by nobody
 *   so have those that the farm wanted by itself, to find which commit did it: of these some were not needed after all
 *   every log of that verdict is what its command wrote        no session of a coordinator that ended is open
 *   no command ran twice within an attempt, and none that was begun on a machine of ours was begun again unless that machine was killed
 *   canceled is what somebody canceled, and nothing else       each test of a build is settled once, and the verdict is theirs
 *   each test ran once in a group that ended, unless it was slow, and never twice in any
 *
 * A seed that fails is written to testdata/chaos-seeds.json, and runs every time, at the same time as the new one and shorter.
 * CHAOS_SEED=N[,N...] runs those; what processes and networks make of it differs a little from run to run, so a seed says what was done to
 * the farm, not what it did.
 */
import { expect, test } from "vitest";
import { judgeTests } from "./testing/judge-tests.ts";
import { keepSeed, keptSeeds } from "./testing/kept-seeds.ts";
import type { Machine } from "./testing/machine.ts";
import { until } from "./testing/process.ts";
import { random } from "./testing/random.ts";
import { ORIGINAL_TYPE, type Original, OUR_TYPE, outputOf, SeveralCoordinators, TESTS } from "./testing/several.ts";

const CHAOS_MS = 25_000;
const KEPT_CHAOS_MS = 15_000;
/**
 * A coordinator that died is noticed after 45 s; then what it ran on machines that do not resume is run again. What ran on a machine that
 * resumes and does not come back waits for it, and only then runs elsewhere.
 */
const REST_MS = 300_000;
const HOSTS = `[{ hostType: "${OUR_TYPE}", reconnectWithin: "1m" }, { hostType: "${ORIGINAL_TYPE}" }]`;
const COORDINATORS = 3;
const OUR_MACHINES = 6;
const ORIGINALS = 4;
const MOST_COMMITS = 14;
const LINES = 60;
const BUILDERS = `[
  ...["a", "b", "c"].map((name) => ({ name: "linux-amd64-" + name, host: "${OUR_TYPE}", steps: ["make", "test"].map((step) => ({ name: step, command: ["./work.sh", step, "${LINES}", "0.03"] })) })),
  { name: "linux-amd64-original", host: "${ORIGINAL_TYPE}", steps: [{ name: "make", command: ["./work.sh", "make", "${LINES}", "0.02"] }] },
  { name: "linux-amd64-tests", host: "${OUR_TYPE}", helpers: 2, steps: [{ name: "make", command: ["./work.sh", "make", "${LINES}", "0.01"] }],
    snapshot: { exclude: "*.tmp", limit: "1MiB" },
    tests: { list: "./tests.sh list", run: "./tests.sh run", results: "markers", groupTarget: "1s", unknown: "500ms" } },
  { name: "linux-amd64-original-tests", host: "${ORIGINAL_TYPE}", helpers: 1, steps: [{ name: "make", command: ["./work.sh", "make", "${LINES}", "0.01"] }],
    snapshot: {}, tests: { list: ${JSON.stringify(TESTS)}, run: { command: ["./tests.sh", "run"] }, groupTarget: "1s", unknown: "500ms" } },
]`;
const BUILDERS_COUNT = 6;

const kept = keptSeeds();
const given = process.env.CHAOS_SEED;
const fresh = given === undefined ? [Date.now() % 2 ** 31] : given.split(",").map(Number);
const runs = [
  ...(given === undefined ? kept : []).map((seed) => ({ seed, forMs: KEPT_CHAOS_MS })),
  ...fresh.map((seed) => ({ seed, forMs: CHAOS_MS })),
];

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** What is done to the farm, drawn by the seed; resolves when all that was stopped or paused runs again. */
class Chaos {
  readonly done: string[] = [];
  /** Builds that somebody wanted canceled: unless they had ended before, or the farm did not hear of it. */
  readonly canceled = new Set<number>();
  readonly #farm: SeveralCoordinators;
  readonly #machines: readonly Machine[];
  readonly #originals: readonly Original[];
  readonly #next: () => number;
  readonly #healing = new Set<Promise<void>>();
  /** Coordinators and machines that something is being done to. */
  readonly #hurt = new Set<string>();
  readonly #started = performance.now();

  constructor(
    farm: SeveralCoordinators,
    machines: readonly Machine[],
    originals: readonly Original[],
    next: () => number,
  ) {
    this.#farm = farm;
    this.#machines = machines;
    this.#originals = originals;
    this.#next = next;
  }

  async run(forMs: number): Promise<void> {
    let restarts = 0;
    while (performance.now() - this.#started < forMs) {
      await pause(200 + this.#next() * 900);
      const drawn = this.#next();
      const one = this.#next();
      const span = 300 + this.#next() * 3000;
      const coordinator = Math.floor(one * COORDINATORS);
      const machine = this.#machines[Math.floor(one * this.#machines.length)];
      const original = this.#originals[Math.floor(one * this.#originals.length)];
      if (drawn < 0.2 && this.#farm.commits < MOST_COMMITS) await this.#farm.commit();
      else if (drawn < 0.36) this.#coordinator(coordinator, "SIGKILL", span);
      else if (drawn < 0.46) this.#coordinator(coordinator, "SIGTERM", span);
      else if (drawn < 0.56) this.#coordinator(coordinator, "SIGSTOP", span);
      else if (drawn < 0.64 && machine) this.#machine(machine, "SIGKILL", span);
      else if (drawn < 0.74 && machine) this.#machine(machine, "SIGSTOP", span);
      else if (drawn < 0.79) await this.#cancel(one);
      else if (drawn < 0.83) this.#drain(one < 0.7 ? OUR_TYPE : ORIGINAL_TYPE, span);
      else if (drawn < 0.88 && original) this.#machine(original, drawn < 0.86 ? "SIGKILL" : "SIGSTOP", span);
      else if (drawn < 0.95) this.#note(`cut ${this.#farm.balancer.cut(one)} connections`);
      else if (restarts++ < 2) {
        const signal = one < 0.5 ? "SIGINT" : "SIGQUIT";
        this.#note(`database ${signal}`);
        this.#farm.database.restart(signal);
      }
    }
    while (this.#healing.size > 0) await Promise.all(this.#healing);
  }

  #note(what: string): void {
    this.done.push(`${Math.round(performance.now() - this.#started)} ${what}`);
  }

  #coordinator(at: number, signal: "SIGKILL" | "SIGTERM" | "SIGSTOP", span: number): void {
    this.#hurtFor(`coordinator ${at}`, signal, async () => {
      if (signal === "SIGSTOP") {
        this.#farm.pauseCoordinator(at, signal);
        await pause(span);
        this.#farm.pauseCoordinator(at, "SIGCONT");
        return;
      }
      await this.#farm.stopCoordinator(at, signal);
      await pause(span);
      await this.#farm.startCoordinator(at);
    });
  }

  #machine(machine: Machine | Original, signal: "SIGKILL" | "SIGSTOP", span: number): void {
    this.#hurtFor(machine.name, signal, async () => {
      machine.kill(signal);
      if (signal === "SIGKILL") return;
      await pause(span);
      machine.kill("SIGCONT");
    });
  }

  async #cancel(one: number): Promise<void> {
    const open = await this.#farm
      .rows<{ id: number }>("select id::integer from build where state <> 'ended' order by id")
      .catch(() => []);
    const id = open[Math.floor(one * open.length)]?.id;
    if (id === undefined) return;
    this.canceled.add(id);
    this.#hurtFor(`build ${id}`, "cancel", async () => {
      await this.#farm.act(`/b/${id}/cancel`);
    });
  }

  #drain(hostType: string, span: number): void {
    this.#hurtFor(hostType, "drain", async () => {
      await this.#farm.act(`/hosts/${hostType}/drain`);
      await pause(span);
      while (!(await this.#farm.act(`/hosts/${hostType}/resume`))) await pause(200);
    });
  }

  #hurtFor(whom: string, signal: string, work: () => Promise<void>): void {
    if (this.#hurt.has(whom)) return;
    this.#hurt.add(whom);
    this.#note(`${whom} ${signal}`);
    const healing = work().finally(() => {
      this.#note(`${whom} is back`);
      this.#hurt.delete(whom);
      this.#healing.delete(healing);
    });
    this.#healing.add(healing);
  }
}

async function judge(
  farm: SeveralCoordinators,
  machines: readonly Machine[],
  canceled: ReadonlySet<number>,
): Promise<void> {
  const unkilled = machines.filter(({ kills }) => kills === 0).map(({ name }) => `'${name}'`);
  expect({
    bad: await farm.rows(
      `select id, builder, outcome, reason from build where outcome <> 'canceled' and outcome <> 'success' and not (narrows and outcome = 'skipped')
         and not (builder like '%-tests' and outcome = 'failure') and not (host_type = '${ORIGINAL_TYPE}' and outcome = 'infra_failure')`,
    ),
    canceledByNobody: await farm.rows(
      `select id, builder, reason from build where outcome = 'canceled' and id not in (${[...canceled, 0].join(",")})`,
    ),
    canceledInVain: await farm.rows(
      "select b.id, b.builder, b.outcome from build b join audit a on a.action = 'cancel' and a.subject = 'build:' || b.id where b.outcome <> 'canceled'",
    ),
    open: await farm.number("select count(*) as n from build where state <> 'ended'"),
    builds: await farm.number("select count(*) as n from build where not narrows"),
    severalVerdicts: await farm.rows(
      "select build_id from attempt where outcome in ('success', 'failure') group by build_id having count(*) > 1",
    ),
    openAttempts: await farm.number("select count(*) as n from attempt where state <> 'ended'"),
    leases: await farm.number("select count(*) as n from lease where state <> 'ended'"),
    sessionsOfTheDead: await farm.number(
      "select count(*) as n from session s join coordinator c on c.id = s.coordinator_id where s.closed_at is null and c.ended_at is not null",
    ),
    coordinators: await farm.number("select count(*) as n from coordinator where ended_at is null"),
    ranTwice: await ranTwice(farm),
    givenUpUnkilled: await farm.rows(
      `select b.builder, c.message as commit, a.number, a.reason, m.name as machine from attempt a join build b on b.id = a.build_id
       join commit c on c.id = b.commit_id join machine m on m.id = a.machine_id
       where a.outcome = 'infra_failure' and m.name in (${[...unkilled, "''"].join(",")})
         and exists (select from step s where s.attempt_id = a.id and s.number > 0 and s.started_at is not null)`,
    ),
  }).toEqual({
    bad: [],
    canceledByNobody: [],
    canceledInVain: [],
    open: 0,
    builds: farm.commits * BUILDERS_COUNT,
    severalVerdicts: [],
    openAttempts: 0,
    leases: 0,
    sessionsOfTheDead: 0,
    coordinators: COORDINATORS,
    ranTwice: [],
    givenUpUnkilled: [],
  });
  await logsAreWhole(farm);
  await judgeTests(farm);
}

/** Commands that ran more often than attempts began them. */
async function ranTwice(farm: SeveralCoordinators): Promise<string[]> {
  const begun = await farm.rows<{ command: string; times: number }>(
    `select b.builder || ' ' || c.message || ' ' || s.name as command, count(*)::int as times
     from step s join attempt a on a.id = s.attempt_id join build b on b.id = a.build_id join commit c on c.id = b.commit_id
     where s.number > 0 and s.started_at is not null group by 1`,
  );
  const times = new Map(begun.map((row) => [row.command, row.times]));
  const runs = [...(await farm.runs())].filter(([command, ran]) => ran > (times.get(command) ?? 0));
  return runs.map(([command, ran]) => `${command} ran ${ran} times, begun ${times.get(command) ?? 0} times`);
}

async function logsAreWhole(farm: SeveralCoordinators): Promise<void> {
  const steps = await farm.rows<{ build: number; name: string }>(
    `select b.id as build, s.name from build b join attempt a on a.build_id = b.id and a.outcome = 'success'
     join step s on s.attempt_id = a.id and s.number > 0 and s.name <> 'tests' order by b.id, s.number`,
  );
  const coordinators = [...farm.running.values()];
  const wrong: string[] = [];
  for (const [index, { build, name }] of steps.entries()) {
    const http = coordinators[index % coordinators.length]?.http;
    const text = await (await fetch(`${http}/b/${build}/${name}/log`)).text();
    if (text !== outputOf(name, LINES))
      wrong.push(`build ${build}, ${name}: ${text.length} bytes: ${text.slice(-200)}`);
  }
  expect(wrong).toEqual([]);
}

for (const { seed, forMs } of runs) {
  // At the same time, since most of it is waiting: until a coordinator that was killed is known to be dead.
  test.concurrent(`three coordinators and ten machines come to rest in order after chaos (CHAOS_SEED=${seed})`, {
    timeout: forMs + REST_MS + 90_000,
  }, async () => {
    const next = random(seed);
    const starting = { coordinators: COORDINATORS, builders: BUILDERS, hosts: HOSTS, random: random(seed + 1) };
    await using farm = await SeveralCoordinators.start(starting);
    await using owned = new AsyncDisposableStack();
    const machines: Machine[] = [];
    for (let n = 1; n <= OUR_MACHINES; n++) machines.push(owned.use(await farm.machine(`m${n}`)));
    const originals: Original[] = [];
    for (let n = 1; n <= ORIGINALS; n++) originals.push(owned.use(await farm.original(`o${n}`)));
    const chaos = new Chaos(farm, machines, originals, next);
    try {
      await chaos.run(forMs);
      await farm.ended(farm.commits * BUILDERS_COUNT, REST_MS);
      await until(
        async () =>
          (await farm.number("select count(*) as n from coordinator where ended_at is null")) === COORDINATORS,
        60_000,
        () => "the dead are known to be dead",
      );
      await judge(farm, machines, chaos.canceled);
    } catch (error) {
      const said = machines.map(({ name, output }) => `--- ${name}\n${output.slice(-1200)}`).join("\n");
      const story = `CHAOS_SEED=${seed} (${keepSeed(seed)})\n${chaos.done.join("\n")}\n${said}`;
      throw new Error(`${story}\n${JSON.stringify(await farm.retries().catch(() => []), undefined, 1)}`, {
        cause: error,
      });
    }
  });
}
