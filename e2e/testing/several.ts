/**
 * A farm of several coordinators: real processes on one PostgreSQL of the test's own, behind a balancer, with one secrets folder, and
 * machines that dial the balancer.
 *
 * Steps of its builds are `./work.sh STEP LINES PAUSE [FILE]`, which writes one line into RUNS when it starts, so that every run of every command is
 * known, and prints numbered lines, so that a log can be compared with what was written: LINES, and more until FILE exists, with their number at the
 * end. Tests are those of `./tests.sh`, which writes a line for each
 * test that it begins, signed with the mark of its group.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { type OriginalBuildlet, startOriginalBuildlet } from "../../src/machines/testing/original-buildlet.ts";
import { builderKey } from "../../src/wire/builder-key/builder-key.ts";
import { Balancer } from "./balancer.ts";
import { Machine } from "./machine.ts";
import { Process, root, until } from "./process.ts";
import { Repository, temporaryFolder } from "./repository.ts";
import { SharedDatabase } from "./shared-database.ts";

export const OUR_TYPE = "host-linux-amd64-ours";
export const ORIGINAL_TYPE = "host-linux-amd64-original";

export interface Coordinator {
  readonly at: number;
  readonly process: Process;
  readonly http: string;
  readonly tlsPort: number;
}

export interface SeveralOptions {
  readonly coordinators: number;
  readonly random?: () => number;
  /** The `builders` of the configuration, as text. */
  readonly builders: string;
  /** Its `hosts`; by default both types, of a community. */
  readonly hosts?: string;
  /** Further flags of each coordinator. */
  readonly flags?: readonly string[];
}

/** A simulated machine: killed it loses its connections, and what it ran; paused it does not answer keep-alives. */
export interface Original extends AsyncDisposable {
  readonly name: string;
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
}

const WORK = (runs: string) => `#!/bin/sh
# STEP LINES PAUSE [FILE]
echo "$GO_BUILDER_NAME $(cat commit.txt) $1" >> ${runs}
n=0
while [ $n -lt $2 ] || ! [ -e "\${4:-.}" ]; do
  n=$((n+1))
  echo "$1 $n of $2"
  sleep $3
done
[ -z "$4" ] || echo "$1 ended after $n"
`;

/** Besides `t01` ... `t10`: one that fails the first time that it runs for a commit, and one that fails always for every third commit. */
export const TESTS: readonly string[] = [
  ...Array.from({ length: 10 }, (_, n) => `t${String(n + 1).padStart(2, "0")}`),
  "flaky",
  "broken",
];

const TEST_WORK = (folder: string) => `#!/bin/sh
# list, or run NAME...
if [ "$1" = list ]; then
  printf '%s\\n' ${TESTS.join(" ")}
  exit
fi
shift
commit=$(cat commit.txt)
status=0
for name; do
  echo "$BARNRAISER_MARK begin $name"
  echo "\${BARNRAISER_MARK##*:} $name" >> ${folder}/tests
  sleep 0.4
  came=pass
  case $name in
    flaky) mkdir ${folder}/flaky-$commit 2> /dev/null && came=fail ;;
    broken) [ $((\${commit#c} % 3)) = 0 ] && came=fail ;;
  esac
  echo "$BARNRAISER_MARK $came $name"
  [ $came = pass ] || status=1
done
exit $status
`;

/** How many builds of commits have ended; none as long as any build is open. */
const ENDED =
  "select case when bool_and(state = 'ended') then count(*) filter (where not narrows) else 0 end as n from build";

/** What `work.sh` prints. */
export function outputOf(step: string, lines: number): string {
  return numbered(step, lines, lines);
}

/** What `work.sh` prints that waits for a file, as far as it can be told from `log`: which is whole when it is this. */
export function waitingOutputOf(step: string, lines: number, log: string): string {
  const count = Number(/ended after (\d+)\n$/.exec(log)?.[1] ?? 0);
  return `${numbered(step, lines, Math.max(lines, count))}${step} ended after ${count}\n`;
}

function numbered(step: string, lines: number, count: number): string {
  return Array.from({ length: count }, (_, n) => `${step} ${n + 1} of ${lines}\n`).join("");
}

/** By which the database knows the connections of a coordinator. */
export function nameOf(at: number): string {
  return `coordinator-${at}`;
}

export class SeveralCoordinators implements AsyncDisposable {
  readonly folder: string;
  readonly database: SharedDatabase;
  readonly balancer: Balancer;
  readonly repository: Repository;
  readonly db: pg.Pool;
  /** Those that run, by number. */
  readonly running = new Map<number, Coordinator>();
  /** What coordinators and agents are started from, from now on. */
  dist = `${root}dist`;
  readonly #stack: AsyncDisposableStack;
  readonly #flags: readonly string[];
  #commits = 0;

  private constructor(
    parts: Pick<SeveralCoordinators, "folder" | "database" | "balancer" | "repository">,
    stack: AsyncDisposableStack,
    flags: readonly string[],
  ) {
    this.#flags = flags;
    this.folder = parts.folder;
    this.database = parts.database;
    this.balancer = parts.balancer;
    this.repository = parts.repository;
    this.#stack = stack;
    this.db = new pg.Pool({ ...parts.database.connection, max: 3 });
    this.db.on("error", () => {}); // the test restarts the server
  }

  static async start(options: SeveralOptions): Promise<SeveralCoordinators> {
    await using stack = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
    const database = stack.use(await SharedDatabase.start());
    const balancer = stack.use(await Balancer.open(options.random));
    const repository = stack.use(await Repository.make());
    await writeFile(join(folder, "runs"), "");
    await writeFile(join(folder, "tests"), "");
    await writeFile(
      join(folder, "farm.config.ts"),
      `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s", depth: 100 }],
        hosts: ${options.hosts ?? `[{ hostType: "${OUR_TYPE}" }, { hostType: "${ORIGINAL_TYPE}" }]`}, builders: ${options.builders} };\n`,
    );
    const several = new SeveralCoordinators(
      { folder, database, balancer, repository },
      stack.move(),
      options.flags ?? [],
    );
    await several.commit();
    await Promise.all(Array.from({ length: options.coordinators }, (_, at) => several.startCoordinator(at)));
    return several;
  }

  /** Started again while it cannot start, as a supervisor would: the database may be away. */
  async startCoordinator(at: number, tries = 20): Promise<Coordinator> {
    const data = join(this.folder, `coordinator-${at}`);
    await rm(join(data, "coordinator.json"), { force: true });
    const started = Process.program(
      "coordinator.js",
      [
        ...["-config", join(this.folder, "farm.config.ts"), "-data", data, "-secrets", join(this.folder, "secrets")],
        ...["-listen", "127.0.0.1:0", "-http", "127.0.0.1:0", ...this.#flags],
      ],
      { dist: this.dist, env: { DATABASE_URL: `${this.database.url}&application_name=${nameOf(at)}` } },
    );
    try {
      await started.says(/"msg":"The farm runs"/);
    } catch (error) {
      await started[Symbol.asyncDispose]();
      if (tries === 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
      return this.startCoordinator(at, tries - 1);
    }
    const { http, https } = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8"));
    const coordinator = { at, process: started, http, tlsPort: Number(new URL(https).port) };
    this.running.set(at, coordinator);
    this.#balance();
    return coordinator;
  }

  /** SIGSTOP and SIGCONT: it is there, and does nothing. */
  pauseCoordinator(at: number, signal: "SIGSTOP" | "SIGCONT"): void {
    this.running.get(at)?.process.kill(signal);
  }

  async stopCoordinator(at: number, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const coordinator = this.running.get(at);
    this.running.delete(at);
    this.#balance();
    coordinator?.process.kill(signal);
    await coordinator?.process.exited;
  }

  /** One more commit, which each builder builds. */
  async commit(): Promise<void> {
    const name = `c${++this.#commits}`;
    const files = { "work.sh": WORK(join(this.folder, "runs")), "tests.sh": TEST_WORK(this.folder) };
    await this.repository.commit(name, { "commit.txt": name, ...files });
  }

  get commits(): number {
    return this.#commits;
  }

  /** A real machine that runs our own agent, which is started again whenever it ends, as stage0 would. */
  async machine(name: string): Promise<Machine> {
    const home = join(this.folder, "machines", name);
    await mkdir(join(home, "work"), { recursive: true });
    await writeFile(join(home, "key"), await this.key(OUR_TYPE));
    return new Machine(name, () =>
      Process.program(
        "agents/buildlet.mjs",
        [
          `-coordinator=127.0.0.1:${this.balancer.port}`,
          `-reverse-type=${OUR_TYPE}`,
          `-hostname=${name}`,
          `-workdir=${join(home, "work")}`,
          `-ca-file=${join(this.folder, "secrets", "tls", "ca.pem")}`,
          "-halt=false",
          "-health-addr=127.0.0.1:0",
        ],
        { dist: this.dist, env: { HOME: home, TMPDIR: home, GO_BUILD_KEY_PATH: join(home, "key") } },
      ),
    );
  }

  /**
   * A simulated machine that runs the original's agent, whose `work.sh` and `tests.sh run` are done here; it comes back whenever its
   * session ends.
   */
  async original(name: string): Promise<Original> {
    const key = await this.key(ORIGINAL_TYPE);
    const stop = new AbortController();
    let now: OriginalBuildlet | undefined;
    const exec: OriginalBuildlet["options"]["exec"] = async ({ args }, { write, signal }) => {
      const [step = "", lines = "0", pause = "0", file] = args;
      if (step === "run") {
        await new Promise((resolve) => setTimeout(resolve, 400 * (args.length - 1)));
        return "ok";
      }
      let n = 0;
      while ((n < Number(lines) || !existsSync(file ?? this.folder)) && !signal.aborted) {
        await write(`${step} ${++n} of ${lines}\n`);
        await new Promise((resolve) => setTimeout(resolve, Number(pause) * 1000));
      }
      if (file) await write(`${step} ended after ${n}\n`);
      return "ok";
    };
    const loop = (async () => {
      while (!stop.signal.aborted) {
        try {
          now = await startOriginalBuildlet({ port: this.balancer.port, hostType: ORIGINAL_TYPE, name, key, exec });
          if (stop.signal.aborted) await now[Symbol.asyncDispose]();
          await now.ended;
        } catch {
          // No coordinator takes connections at the moment.
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    })();
    return {
      name,
      kill(signal) {
        if (signal === "SIGKILL") void now?.hangUp();
        else if (now) now.behave.mute = signal === "SIGSTOP";
      },
      async [Symbol.asyncDispose]() {
        stop.abort();
        await now?.[Symbol.asyncDispose]();
        await loop;
      },
    };
  }

  async key(hostType: string): Promise<string> {
    return builderKey((await readFile(join(this.folder, "secrets", "master.key"), "utf8")).trim(), hostType);
  }

  async rows<Row extends pg.QueryResultRow>(text: string): Promise<Row[]> {
    return (await this.db.query<Row>(text)).rows;
  }

  async number(text: string): Promise<number> {
    return Number((await this.rows<{ n: string }>(text))[0]?.n);
  }

  /** How often each command ran: `BUILDER COMMIT STEP` -> times. */
  runs(): Promise<Map<string, number>> {
    return this.#counted("runs");
  }

  /** How often each test ran in each group: `NONCE TEST` -> times. */
  testRuns(): Promise<Map<string, number>> {
    return this.#counted("tests");
  }

  /** As the operator, at any coordinator that answers. True: it was done, false: it was refused; undefined: nobody knows. */
  async act(path: string): Promise<boolean | undefined> {
    const token = (await readFile(join(this.folder, "secrets", "operator-token"), "utf8")).trim();
    const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
    const [coordinator] = [...this.running.values()].toSorted(() => Math.random() - 0.5);
    if (!coordinator) return undefined;
    try {
      const url = `${coordinator.http}${path}`;
      const { status } = await fetch(url, { method: "POST", headers, signal: AbortSignal.timeout(10_000) });
      return status < 500 ? status < 300 : undefined;
    } catch {
      return undefined;
    }
  }

  /** Attempts that the farm itself failed, and why. */
  retries(): Promise<{ builder: string; commit: string; number: number; reason: string; machine: string }[]> {
    return this.rows(
      `select b.builder, c.message as commit, a.number, a.reason, m.name as machine from attempt a join build b on b.id = a.build_id
       join commit c on c.id = b.commit_id left join machine m on m.id = a.machine_id where a.outcome = 'infra_failure' order by a.id`,
    );
  }

  /** Resolves once `count` builds have ended, and with them those that the farm wanted by itself. */
  async ended(count: number, limitMs: number): Promise<void> {
    const open = () =>
      this.rows(`select b.id, b.builder, b.state, a.number, a.state as attempt, a.reason, l.state as lease, l.queue, l.epoch, l.parked_until, l.instance, m.name as machine,
          (select jsonb_agg(jsonb_build_object('at', s.opened_at, 'closed', s.close_reason, 'instance', s.instance) order by s.number) from session s where s.machine_id = m.id) as sessions
        from build b join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id left join machine m on m.id = l.machine_id
        where b.state <> 'ended' order by b.id, a.number`);
    const database = () =>
      this.rows(
        "select pid, state, wait_event_type, wait_event, pg_blocking_pids(pid) as behind, now() - state_change as since, left(query, 300) as query from pg_stat_activity where state <> 'idle' and pid <> pg_backend_pid()",
      );
    let last: unknown[] = [];
    let busy: unknown[] = [];
    await until(
      async () => {
        last = await open().catch(() => last);
        busy = await database().catch(() => busy);
        return (await this.number(ENDED).catch(() => 0)) >= count;
      },
      limitMs,
      () =>
        `${count} builds ended; open are ${JSON.stringify(last, undefined, 1)}\nthe database does ${JSON.stringify(busy, undefined, 1)}\n${this.said()}`,
    );
  }

  /** What the coordinators that run have said, above debug level. */
  said(): string {
    return [...this.running.values()]
      .map(({ at, process }) => `--- coordinator ${at}\n${process.output.slice(-6000)}`)
      .join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.running.values()].map(({ process }) => process[Symbol.asyncDispose]()));
    await this.db.end();
    await this.#stack.disposeAsync();
  }

  /** The lines of a file, and how often each is there. */
  async #counted(file: string): Promise<Map<string, number>> {
    const lines = (await readFile(join(this.folder, file), "utf8")).split("\n").filter(Boolean);
    return new Map([...Map.groupBy(lines, (line) => line)].map(([line, all]) => [line, all.length]));
  }

  #balance(): void {
    this.balancer.targets = [...this.running.values()].map(({ tlsPort }) => tlsPort);
  }
}
