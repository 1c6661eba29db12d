/**
 * A farm to measure: the real coordinator program from dist/, with its own embedded PostgreSQL in a temporary folder, a real
 * repository, and a connection to its database, through which a bench asks for builds and reads how they went.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Repository, temporaryFolder } from "../e2e/testing/repository.ts";
import type { FarmInput } from "../src/config/input.ts";
import type { Recipe, Step } from "../src/farm/build.ts";
import type { Log } from "../src/farm/deps.ts";
import { type BuildId, epochMs, minutes, seconds } from "../src/farm/ids.ts";
import { type BuildRef, insertBuilds, insertRebuild } from "../src/store/builds.ts";
import { PostgresBus } from "../src/store/bus.ts";
import { openPool, PooledSql } from "../src/store/connection.ts";
import { holderOf } from "../src/store/data-folder.ts";
import { connectionOf } from "../src/store/embedded-server.ts";
import type { Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import { builderKey } from "../src/wire/builder-key/builder-key.ts";
import { Program, root } from "./program.ts";
import { type FleetOptions, SimulatedMachines } from "./simulated-machines.ts";
import { until } from "./wait.ts";

const HOST_TYPE = "host-linux-amd64-bench";
export const REPO = "app";
const MASTER_KEY = "a master key for benches";
const START_LIMIT_MS = 60_000;

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

export interface FarmOptions {
  readonly signal: AbortSignal;
  /** What the repository holds; one small file when left out. */
  readonly fill?: (repository: Repository) => Promise<void>;
  /** Instead of one host type (HOST_TYPE) and one repository (REPO), whose commits nobody builds unless asked. */
  readonly config?: FarmInput;
  /** Further flags of the coordinator. */
  readonly flags?: readonly string[];
}

/** Work for `want`. */
export interface Wanted {
  readonly steps: readonly Pick<Step, "name" | "command">[];
  /** How many builds of it; each has a builder name of its own. */
  readonly count?: number;
  readonly commitId?: number;
  /** What comes after the steps. */
  readonly after?: Pick<Recipe, "tests" | "snapshot">;
}

export class BenchFarm implements AsyncDisposable {
  readonly folder: string;
  readonly data: string;
  readonly repository: Repository;
  readonly key: string = builderKey(MASTER_KEY, HOST_TYPE);
  readonly #signal: AbortSignal;
  readonly #flags: readonly string[];
  readonly #stack: AsyncDisposableStack;
  #coordinator: Program | undefined;
  #connections: AsyncDisposableStack | undefined;
  #sql: Sql | undefined;
  #bus: PostgresBus | undefined;
  #http = "";
  #https = "";
  #builds = 0;

  private constructor(
    folder: string,
    repository: Repository,
    { signal, flags = [] }: FarmOptions,
    stack: AsyncDisposableStack,
  ) {
    this.#flags = flags;
    this.folder = folder;
    this.data = join(folder, "data");
    this.repository = repository;
    this.#signal = signal;
    this.#stack = stack;
  }

  static async start(options: FarmOptions): Promise<BenchFarm> {
    const { fill, config } = options;
    await using stack = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const repository = stack.use(await Repository.make());
    if (fill) await fill(repository);
    else await repository.commit("First", { "test.sh": "#!/bin/sh\necho tested\n" });
    const input: FarmInput = config ?? {
      repos: [{ name: REPO, url: repository.path, poll: "15s" }],
      hosts: [{ hostType: HOST_TYPE, trust: "team" }],
      builders: [{ name: "linux-amd64-bench", host: HOST_TYPE, steps: ["true"], tryOnly: true }],
    };
    await writeFile(join(folder, "farm.config.mjs"), `export default ${JSON.stringify(input, undefined, 2)};\n`);
    await writeFile(join(folder, "master.key"), `${MASTER_KEY}\n`);
    const farm = new BenchFarm(folder, repository, options, stack.move());
    try {
      await farm.startCoordinator();
    } catch (error) {
      await farm[Symbol.asyncDispose]();
      throw error;
    }
    return farm;
  }

  get sql(): Sql {
    return present(this.#sql);
  }

  get coordinator(): Program {
    return present(this.#coordinator);
  }

  /** Address of the plain HTTP port, without a slash at the end. */
  get http(): string {
    return this.#http;
  }

  /** Port that machines dial. */
  get port(): number {
    return Number(new URL(this.#https).port);
  }

  /** Files of the certificate that machines see. */
  get certificate(): { readonly keyFile: string; readonly certFile: string; readonly caFile: string } {
    const tls = join(this.data, "tls");
    return { keyFile: join(tls, "server-key.pem"), certFile: join(tls, "server.pem"), caFile: join(tls, "ca.pem") };
  }

  /** Starts the coordinator; again on the same addresses when it ran before. */
  async startCoordinator(): Promise<void> {
    const again = this.#https !== "";
    const address = (url: string) => (again ? new URL(url).host : "127.0.0.1:0");
    const addresses = ["-listen", address(this.#https), "-http", address(this.#http)];
    const config = ["-config", join(this.folder, "farm.config.mjs"), "-masterkey", join(this.folder, "master.key")];
    const coordinator = await Program.start({
      command: process.execPath,
      args: [`${root}dist/coordinator.js`, ...config, "-data", this.data, ...addresses, ...this.#flags],
      output: join(this.folder, "coordinator.log"),
    });
    this.#coordinator = coordinator;
    const holder = await until(
      async () => {
        if (coordinator.ended !== undefined) throw await coordinator.failure("The coordinator ended");
        const found = await holderOf(this.data);
        return found?.pid === coordinator.pid && found.http && found.https ? found : undefined;
      },
      { signal: this.#signal, limitMs: START_LIMIT_MS, what: () => "the coordinator's addresses", everyMs: 5 },
    );
    this.#http = (holder.http ?? "").replace(/\/$/, "");
    this.#https = holder.https ?? "";
    await this.#connect();
  }

  async stopCoordinator(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.#connections?.disposeAsync();
    this.#connections = undefined;
    await this.#coordinator?.stop(signal);
  }

  /** The newest commit of the repository, once the farm has found it: row and hash. */
  async commit(): Promise<{ readonly id: number; readonly hash: string }> {
    const hash = (await this.repository.git("rev-parse", "HEAD")).trim();
    const id = await until(
      async () => {
        const [row] = await this.sql.query<{ id: number }>("select id from commit where repo = $1 and hash = $2", [
          REPO,
          hash,
        ]);
        return row?.id;
      },
      { signal: this.#signal, limitMs: START_LIMIT_MS, what: () => `commit ${hash} in the database` },
    );
    return { id, hash };
  }

  /** Inserts builds, each wanted from now on, and tells the coordinator so, as another coordinator would. */
  async want({ steps, count = 1, commitId, after }: Wanted): Promise<BuildRef[]> {
    const commit = commitId ?? (await this.commit()).id;
    const now = epochMs(Date.now());
    const recipe: Omit<Recipe, "builder"> = {
      hostType: HOST_TYPE,
      env: [],
      sourceDir: "src",
      steps: steps.map((step) => ({ ...step, dir: "", env: [], path: [], timeLimitMs: minutes(5) })),
      ...after,
    };
    const builds = Array.from({ length: count }, () => ({
      repo: REPO,
      commitId: commit,
      branch: "main",
      head: true,
      recipe: { ...recipe, builder: `linux-amd64-bench${++this.#builds}` },
      provenance: "submitted" as const,
      class: "post-submit" as const,
      rank: this.#builds,
      starvesAt: epochMs(now + seconds(3600)),
    }));
    const inserted = await insertBuilds(this.sql, builds, now);
    present(this.#bus).publish(`queue:${HOST_TYPE}`);
    return inserted;
  }

  /** The same build once more, as if somebody had asked for it. */
  async wantAgain(of: BuildRef): Promise<BuildRef> {
    const now = epochMs(Date.now());
    const rebuild = {
      of: of.id,
      who: "bench",
      class: "try",
      rank: 0,
      starvesAt: epochMs(now + seconds(3600)),
    } as const;
    const { build } = await insertRebuild(this.sql, rebuild, now);
    present(this.#bus).publish(`queue:${HOST_TYPE}`);
    return build;
  }

  /** Resolves when no build is open any more; throws when one did not end well. */
  async allEnded(limitMs: number, everyMs = 20): Promise<void> {
    let open = 0;
    await until(
      async () => {
        const [row] = await this.sql.query<{ n: number }>("select count(*) as n from build where state <> 'ended'");
        open = row?.n ?? 0;
        return open === 0;
      },
      { signal: this.#signal, limitMs, everyMs, what: () => `the end of ${open} builds` },
    );
    const [bad] = await this.sql.query<{ id: BuildId; outcome: string; reason: string | null }>(
      "select id, outcome, reason from build where outcome <> 'success' limit 1",
    );
    if (bad) throw new Error(`Cannot measure with build ${bad.id}: it ended as ${bad.outcome}: ${bad.reason ?? ""}`);
  }

  /** A real buildlet process, connected and in the pool. */
  async machine(name: string): Promise<Program> {
    const work = join(this.folder, name);
    await mkdir(join(work, "work"), { recursive: true });
    const keyFile = join(this.folder, "machine.key");
    await writeFile(keyFile, this.key, { mode: 0o600 });
    const flags = [
      `-coordinator=127.0.0.1:${this.port}`,
      `-reverse-type=${HOST_TYPE}`,
      `-hostname=${name}`,
      `-ca-file=${this.certificate.caFile}`,
      `-workdir=${join(work, "work")}`,
      "-health-addr=127.0.0.1:0",
      "-halt=false",
      "-reboot=false",
    ];
    // By its launcher, as on a lent machine: it leaves nothing of itself behind, and hands on what the program needs.
    const program = await Program.start({
      command: process.execPath,
      args: [`${root}dist/agents/stage0.mjs`, ...flags],
      output: join(work, "output.log"),
      cwd: work,
      env: { GO_BUILD_KEY_PATH: keyFile },
    });
    this.#stack.use(program);
    const limit = { signal: this.#signal, limitMs: START_LIMIT_MS, what: () => `machine ${name}` };
    await until(async () => {
      if (program.ended !== undefined) throw await program.failure(`Machine ${name} ended`);
      return (await this.openSessions(name)) > 0;
    }, limit);
    return program;
  }

  /** Simulated machines that dial this farm. */
  async simulate(
    options: Pick<FleetOptions, "count" | "prefix" | "hold"> & { readonly output?: string },
  ): Promise<SimulatedMachines> {
    const agent = await readFile(`${root}dist/agents/buildlet.mjs`);
    return new SimulatedMachines({
      output: "ok\n",
      ...options,
      host: "127.0.0.1",
      port: this.port,
      ca: await readFile(this.certificate.caFile, "utf8"),
      hostType: HOST_TYPE,
      key: this.key,
      digest: createHash("sha256").update(agent).digest("hex"),
    });
  }

  /** How many sessions are open in the database; of machines called `name` when given. */
  async openSessions(name?: string): Promise<number> {
    const [row] = await this.sql.query<{ n: number }>(
      `select count(*) as n from session s join machine m on m.id = s.machine_id
       where s.closed_at is null and ($1::text is null or m.name = $1)`,
      [name ?? null],
    );
    return row?.n ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopCoordinator();
    await this.#stack.disposeAsync();
  }

  async #connect(): Promise<void> {
    const stack = new AsyncDisposableStack();
    this.#connections = stack;
    const config = await connectionOf(this.data);
    const pool = openPool(config, quiet, { statementLimit: minutes(30) }); // seeding a million rows is one statement
    stack.defer(() => pool.end());
    this.#sql = new PooledSql({ pool, clock: systemClock, patience: seconds(20), signal: this.#signal });
    this.#bus = stack.use(new PostgresBus(config, systemClock, quiet));
  }
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("Cannot use a farm that does not run");
  return value;
}
