/**
 * The PostgreSQL server that comes with the farm, for farms that have none of their own.
 *
 *   DATA/postgres/cluster    the database
 *   DATA/postgres/password   of the one user, random, 0600
 *   DATA/postgres/server.log what the server says
 *   socket                   a private folder, in DATA/postgres or (long paths) in the temporary folder
 *
 * The server is a child of the coordinator in a process group of its own, so that Ctrl-C reaches the coordinator first.
 * If the server dies it is started again.
 *
 * The next start takes over the server of a coordinator that was killed, if it answers and runs exactly the command
 * that would be started now. Stopping and starting it would take seconds in which the farm is away. Any other server
 * that was left is stopped.
 *
 * A caller that starts a server here must hold the data folder (data-folder.ts).
 */
import { execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { ms, seconds } from "../farm/ids.ts";
import { findPostgres, type PostgresProgram } from "./postgres-program.ts";
import {
  backendsEnded,
  runsCommand,
  type ServerProcess,
  serverChild,
  serverLeft,
  signalServer,
  stopServer,
} from "./server-process.ts";

const USER = "farm";
const READY_LIMIT = seconds(60);
/** How long a healthy server takes to answer at most. */
const ANSWER_LIMIT = seconds(5);
const LOG_LIMIT_BYTES = 10 * 1024 * 1024;
/** A socket's path must fit 107 bytes; the server appends `/.s.PGSQL.5432` and a lock suffix. */
const SOCKET_FOLDER_LIMIT = 80;

const run = promisify(execFile);

export interface EmbeddedServerOptions {
  /** The farm's data folder. */
  readonly data: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Server settings on top of ours, as for `postgres -c name=value`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * The memory for database pages: an eighth of each whole GB, from 128 MB to 1 GB. The indexes of a million leases fit in
 * the latter. `total` is the memory of the computer in bytes, `limit` that of the container; 0 means no limit.
 */
export function sharedBuffers(total: number, limit: number): string {
  const gigabytes = Math.floor(Math.min(total, limit || total) / 2 ** 30);
  return `${128 * Math.min(8, Math.max(1, gigabytes))}MB`;
}

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  shared_buffers: sharedBuffers(totalmem(), process.constrainedMemory()),
  max_connections: "60",
  max_wal_size: "2GB",
  checkpoint_completion_target: "0.9",
  jit: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  log_checkpoints: "off",
};

interface Files {
  readonly cluster: string;
  readonly password: string;
  readonly log: string;
  readonly socket: string;
}

async function filesOf(program: PostgresProgram, data: string): Promise<Files> {
  const home = await program.home(data);
  const inHome = join(home, "socket");
  const hash = createHash("sha256").update(home).digest("hex").slice(0, 16);
  return {
    cluster: join(home, "cluster"),
    password: join(home, "password"),
    log: join(home, "server.log"),
    socket: inHome.length <= SOCKET_FOLDER_LIMIT ? inHome : join(tmpdir(), `barnraiser-${hash}`),
  };
}

/** How to connect to the server of the data folder `data`, which a coordinator runs. */
export async function connectionOf(data: string): Promise<pg.ClientConfig> {
  return connection(await filesOf(await findPostgres(), data));
}

async function connection(files: Files): Promise<pg.ClientConfig> {
  return {
    host: files.socket,
    port: 5432,
    user: USER,
    database: USER,
    password: await readFile(files.password, "utf8"),
  };
}

export class EmbeddedServer implements AsyncDisposable {
  readonly connection: pg.ClientConfig;
  readonly #options: EmbeddedServerOptions;
  readonly #program: PostgresProgram;
  readonly #files: Files;
  readonly #stopping = new AbortController();
  /** Stops the server even when the coordinator exits without disposing, because its time to end was up. */
  readonly #onExit = () => {
    if (this.#process) signalServer(this.#process, "SIGINT");
  };
  #process: ServerProcess | undefined;
  #supervisor: Promise<void> = Promise.resolve();

  private constructor(options: EmbeddedServerOptions, program: PostgresProgram, files: Files, config: pg.ClientConfig) {
    this.#options = options;
    this.#program = program;
    this.#files = files;
    this.connection = config;
  }

  /**
   * Starts the server, or takes over one that runs. Makes its cluster the first time. Resolves when it takes
   * connections.
   */
  static async start(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
    const program = await findPostgres();
    const files = await filesOf(program, options.data);
    await prepare(program, files);
    const server = new EmbeddedServer(options, program, files, await connection(files));
    process.on("exit", server.#onExit);
    try {
      if (!(await server.#takeOver())) await server.#spawn();
      await server.#ready();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    server.#supervisor = server.#supervise();
    return server;
  }

  /** The server's process id, for tests that kill it. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    if (this.#process && !(await this.#process.isGone())) await stopServer(this.#process, this.#options.clock);
    await this.#supervisor;
    process.off("exit", this.#onExit);
  }

  get #args(): string[] {
    const settings = { ...SETTINGS, unix_socket_directories: this.#files.socket, ...this.#options.settings };
    return [
      "-D",
      this.#files.cluster,
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ];
  }

  /**
   * Goes on with the server that a killed coordinator left running. False: there is none, or it cannot be used and was
   * stopped.
   */
  async #takeOver(): Promise<boolean> {
    const left = await serverLeft(this.#files.cluster, this.#options.clock);
    if (left === undefined) return false;
    if (!(await runsCommand(left.pid, this.#program.postgres, this.#args)) || !(await this.#answers())) {
      await this.#stopLeft(left);
      return false;
    }
    this.#options.log.info({ pid: left.pid }, "Going on with the PostgreSQL that an earlier coordinator left running");
    this.#process = left;
    return true;
  }

  async #stopLeft(left: ServerProcess): Promise<void> {
    this.#options.log.info({ pid: left.pid }, "Stopping the PostgreSQL that an earlier coordinator left running");
    await stopServer(left, this.#options.clock);
  }

  async #answers(): Promise<boolean> {
    const client = this.#client({ query_timeout: ANSWER_LIMIT });
    try {
      await client.connect();
      await client.query("select 1");
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => {});
    }
  }

  #client(more: pg.ClientConfig = {}): pg.Client {
    const config = { ...this.connection, database: "postgres", connectionTimeoutMillis: ANSWER_LIMIT, ...more };
    const client = new pg.Client(config);
    client.on("error", () => {}); // reported by the query that it breaks
    return client;
  }

  async #spawn(): Promise<void> {
    const { log, cluster } = this.#files;
    await backendsEnded(cluster, this.#options.clock, this.#options.log);
    const grown = await stat(log).catch(() => undefined);
    if (grown && grown.size > LOG_LIMIT_BYTES) await truncate(log);
    await using output = await open(log, "a", 0o600);
    const child = spawn(this.#program.postgres, this.#args, {
      detached: true,
      stdio: ["ignore", output.fd, output.fd],
      cwd: cluster,
      ...this.#program.user,
    });
    child.on("error", (error) => this.#options.log.error({ error: messageOf(error) }, "Cannot run PostgreSQL"));
    this.#process = serverChild(child);
  }

  async #ready(): Promise<void> {
    const { clock } = this.#options;
    const limit = clock.monotonic() + READY_LIMIT;
    for (;;) {
      const client = this.#client();
      try {
        await client.connect();
        const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [USER]);
        if (rowCount === 0) await client.query(`create database ${USER}`);
        return;
      } catch (error) {
        const died = (await this.#process?.isGone()) ?? true;
        if (died || clock.monotonic() > limit) {
          const said = (await readFile(this.#files.log, "utf8").catch(() => ""))
            .trimEnd()
            .split("\n")
            .slice(-5)
            .join("\n");
          throw new FarmError(
            "unavailable",
            `Cannot start PostgreSQL in ${this.#files.cluster}: ${died ? "it ended" : "it did not answer"}:\n${said}`,
            { cause: error },
          );
        }
      } finally {
        await client.end().catch(() => {});
      }
      await clock.sleep(ms(10));
    }
  }

  /** Starts the server again whenever it ends without being told to. */
  async #supervise(): Promise<void> {
    const { clock, log } = this.#options;
    for (;;) {
      const end = await this.#process?.ended();
      if (this.#stopping.signal.aborted) return;
      log.error({ ...end }, "PostgreSQL ended; starting it again");
      try {
        const left = await serverLeft(this.#files.cluster, clock);
        if (left) await this.#stopLeft(left);
        await clock.sleep(ms(200), this.#stopping.signal);
        await this.#spawn();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        log.error({ error: messageOf(error) }, "Cannot start PostgreSQL again; trying once more");
        await clock.sleep(seconds(1), this.#stopping.signal).catch(() => {});
      }
    }
  }
}

async function prepare(program: PostgresProgram, files: Files): Promise<void> {
  const own = async (folder: string) => {
    await mkdir(join(folder, ".."), { recursive: true }); // not private: the server's user has to pass through
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if (program.user) await chown(folder, program.user.uid, program.user.gid);
    await chmod(folder, 0o700);
  };
  await own(join(files.cluster, ".."));
  await own(files.socket);
  const made = await readFile(join(files.cluster, "PG_VERSION"), "utf8").catch(() => undefined);
  const { stdout } = await run(program.postgres, ["--version"], { ...program.user });
  const major = /(\d+)\./.exec(stdout)?.[1] ?? "";
  if (made !== undefined) {
    if (made.trim() === major) return;
    throw new FarmError(
      "conflict",
      `Cannot use the database in ${files.cluster}: it is PostgreSQL ${made.trim()}, this farm brings ${major}. Start it with the version of Barnraiser that made it.`,
    );
  }
  await rm(files.cluster, { recursive: true, force: true }); // left by an interrupted initdb
  const password = randomBytes(24).toString("hex");
  const draft = `${files.cluster}.draft`;
  await rm(draft, { recursive: true, force: true });
  await writeFile(files.password, password, { mode: 0o600 });
  if (program.user) await chown(files.password, program.user.uid, program.user.gid);
  const flags = [
    "--auth=scram-sha-256",
    `--pwfile=${files.password}`,
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
  ];
  await run(program.initdb, ["-D", draft, "-U", USER, ...flags], { ...program.user, cwd: "/" }).catch((error) => {
    throw new FarmError("unavailable", `Cannot make a database in ${files.cluster}: ${messageOf(error)}`, {
      cause: error,
    });
  });
  await rename(draft, files.cluster);
}
