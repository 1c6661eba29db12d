/**
 * A farm of several coordinators: real processes on one PostgreSQL of the test's own, behind a balancer, with one secrets folder, and
 * machines that dial the balancer.
 *
 * Steps of its builds are `./work.sh STEP LINES PAUSE`, which writes one line into RUNS when it starts, so that every run of every command is known,
 * and prints numbered lines, so that a log can be compared with what was written.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { type OriginalBuildlet, startOriginalBuildlet } from "../../src/machines/testing/original-buildlet.ts";
import { EmbeddedServer } from "../../src/store/embedded-server.ts";
import { systemClock } from "../../src/store/system-clock.ts";
import { builderKey } from "../../src/wire/builder-key/builder-key.ts";
import { Balancer } from "./balancer.ts";
import { Process, until } from "./process.ts";
import { Repository, temporaryFolder } from "./repository.ts";

export const OUR_TYPE = "host-linux-amd64-ours";
export const ORIGINAL_TYPE = "host-linux-amd64-original";

export interface Coordinator {
  readonly at: number;
  readonly process: Process;
  readonly http: string;
  readonly tlsPort: number;
}

/** A machine whose agent is started again whenever it ends. */
export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly #start: () => Process;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #process: Process;
  /** How often the agent was killed. */
  kills = 0;

  constructor(name: string, start: () => Process) {
    this.name = name;
    this.#start = start;
    this.#process = start();
    this.#loop = this.#supervise();
  }

  /** SIGKILL is for good for what it ran; SIGSTOP and SIGCONT are a pause. */
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    if (signal === "SIGKILL") this.kills++;
    this.#process.kill(signal);
  }

  get output(): string {
    return this.#process.output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#process[Symbol.asyncDispose]();
    await this.#loop;
  }

  async #supervise(): Promise<void> {
    for (;;) {
      await this.#process.exited;
      await new Promise((resolve) => setTimeout(resolve, 200));
      if (this.#stop.signal.aborted) return;
      this.#process = this.#start();
    }
  }
}

export interface SeveralOptions {
  readonly coordinators: number;
  readonly random?: () => number;
  /** The `builders` of the configuration, as text. */
  readonly builders: string;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

const WORK = (runs: string) => `#!/bin/sh
# STEP LINES PAUSE
echo "$GO_BUILDER_NAME $(cat commit.txt) $1" >> ${runs}
n=0
while [ $n -lt $2 ]; do
  n=$((n+1))
  echo "$1 $n of $2"
  sleep $3
done
`;

/** What `work.sh` prints. */
export function outputOf(step: string, lines: number): string {
  return Array.from({ length: lines }, (_, n) => `${step} ${n + 1} of ${lines}\n`).join("");
}

export class SeveralCoordinators implements AsyncDisposable {
  readonly folder: string;
  readonly server: EmbeddedServer;
  readonly balancer: Balancer;
  readonly repository: Repository;
  readonly db: pg.Pool;
  /** Those that run, by number. */
  readonly running = new Map<number, Coordinator>();
  readonly #stack: AsyncDisposableStack;
  #commits = 0;

  private constructor(
    parts: Pick<SeveralCoordinators, "folder" | "server" | "balancer" | "repository">,
    stack: AsyncDisposableStack,
  ) {
    this.folder = parts.folder;
    this.server = parts.server;
    this.balancer = parts.balancer;
    this.repository = parts.repository;
    this.#stack = stack;
    this.db = new pg.Pool({ ...parts.server.connection, max: 3 });
    this.db.on("error", () => {}); // the test restarts the server
  }

  static async start(options: SeveralOptions): Promise<SeveralCoordinators> {
    await using stack = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
    const settings = { max_connections: "120" };
    await mkdir(join(folder, "db"));
    const server = stack.use(
      await EmbeddedServer.start({ data: join(folder, "db"), clock: systemClock, log: quiet, settings }),
    );
    const balancer = stack.use(await Balancer.open(options.random));
    const repository = stack.use(await Repository.make());
    await writeFile(join(folder, "runs"), "");
    await writeFile(
      join(folder, "farm.config.ts"),
      `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s", depth: 100 }],
        hosts: [{ hostType: "${OUR_TYPE}" }, { hostType: "${ORIGINAL_TYPE}" }], builders: ${options.builders} };\n`,
    );
    const several = new SeveralCoordinators({ folder, server, balancer, repository }, stack.move());
    await several.commit();
    await Promise.all(Array.from({ length: options.coordinators }, (_, at) => several.startCoordinator(at)));
    return several;
  }

  /** Started again while it cannot start, as a supervisor would: the database may be away. */
  async startCoordinator(at: number, tries = 20): Promise<Coordinator> {
    const data = join(this.folder, `coordinator-${at}`);
    await rm(join(data, "coordinator.json"), { force: true });
    const { host, user, password, database } = this.server.connection;
    const url = `postgres://${user}:${password}@localhost/${database}?host=${encodeURIComponent(host ?? "")}`;
    const started = Process.program(
      "coordinator.js",
      [
        ...["-config", join(this.folder, "farm.config.ts"), "-data", data, "-secrets", join(this.folder, "secrets")],
        ...["-listen", "127.0.0.1:0", "-http", "127.0.0.1:0"],
      ],
      { env: { DATABASE_URL: url } },
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
    await this.repository.commit(name, { "commit.txt": name, "work.sh": WORK(join(this.folder, "runs")) });
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
        { env: { HOME: home, TMPDIR: home, GO_BUILD_KEY_PATH: join(home, "key") } },
      ),
    );
  }

  /** A simulated machine that runs the original's agent, whose `work.sh` is done here; it comes back whenever its session ends. */
  async original(name: string): Promise<AsyncDisposable> {
    const key = await this.key(ORIGINAL_TYPE);
    const stop = new AbortController();
    let now: OriginalBuildlet | undefined;
    const exec: OriginalBuildlet["options"]["exec"] = async ({ args }, { write, signal }) => {
      const [, , , step = "", lines = "0", pause = "0"] = ["", "", "", ...args];
      for (let n = 1; n <= Number(lines) && !signal.aborted; n++) {
        await write(`${step} ${n} of ${lines}\n`);
        await new Promise((resolve) => setTimeout(resolve, Number(pause) * 1000));
      }
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
      async [Symbol.asyncDispose]() {
        stop.abort();
        await now?.[Symbol.asyncDispose]();
        await loop;
      },
    };
  }

  /** The database ends in an orderly way (SIGINT) or at once (SIGQUIT), and is started again by itself. */
  restartDatabase(signal: "SIGINT" | "SIGQUIT"): void {
    if (this.server.pid !== undefined) process.kill(this.server.pid, signal);
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
  async runs(): Promise<Map<string, number>> {
    const lines = (await readFile(join(this.folder, "runs"), "utf8")).split("\n").filter(Boolean);
    return new Map([...Map.groupBy(lines, (line) => line)].map(([line, all]) => [line, all.length]));
  }

  /** Attempts that the farm itself failed, and why. */
  retries(): Promise<{ builder: string; commit: string; number: number; reason: string; machine: string }[]> {
    return this.rows(
      `select b.builder, c.message as commit, a.number, a.reason, m.name as machine from attempt a join build b on b.id = a.build_id
       join commit c on c.id = b.commit_id left join machine m on m.id = a.machine_id where a.outcome = 'infra_failure' order by a.id`,
    );
  }

  /** Resolves once `count` builds have ended. */
  async ended(count: number, limitMs: number): Promise<void> {
    const open = () =>
      this.rows(`select b.id, b.builder, b.state, a.number, a.state as attempt, a.reason, l.state as lease, l.queue from build b
        join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id where b.state <> 'ended' order by b.id, a.number`);
    let last: unknown[] = [];
    await until(
      async () => {
        last = await open().catch(() => last);
        return (await this.number("select count(*) as n from build where state = 'ended'").catch(() => 0)) >= count;
      },
      limitMs,
      () => `${count} builds ended; open are ${JSON.stringify(last, undefined, 1)}\n${this.said()}`,
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

  #balance(): void {
    this.balancer.targets = [...this.running.values()].map(({ tlsPort }) => tlsPort);
  }
}
