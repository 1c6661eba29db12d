/**
 * The PostgreSQL server that comes with the farm, for whoever has not got one of their own.
 *
 *   DATA/postgres/cluster    the database
 *   DATA/postgres/password   of the one user, random, 0600
 *   DATA/postgres/server.log what the server says
 *   socket                   a private folder, in DATA/postgres or (long paths) in the temporary folder
 *
 * The server is a child of the coordinator in a process group of its own, so that Ctrl-C reaches the coordinator first. If the
 * server dies it is started again. If the coordinator was killed, its orphaned server is stopped by the next start.
 * Whoever starts a server here must hold the data folder (data-folder.ts).
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { ms, seconds } from "../farm/ids.ts";
import { findPostgres, type PostgresProgram } from "./postgres-program.ts";

const USER = "farm";
const READY_LIMIT = seconds(60);
const STOP_LIMIT = seconds(30);
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

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  shared_buffers: "128MB",
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
  /** A coordinator that ends without disposing (its time to end was up) still takes the server with it. */
  readonly #onExit = () => {
    if (this.#child?.pid !== undefined) kill(this.#child.pid, "SIGINT");
  };
  #child: ChildProcess | undefined;
  #supervisor: Promise<void> = Promise.resolve();

  private constructor(options: EmbeddedServerOptions, program: PostgresProgram, files: Files, config: pg.ClientConfig) {
    this.#options = options;
    this.#program = program;
    this.#files = files;
    this.connection = config;
  }

  /** Starts the server, making its cluster the first time, and resolves when it takes connections. */
  static async start(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
    const program = await findPostgres();
    const files = await filesOf(program, options.data);
    await prepare(program, files);
    await stopOrphan(files.cluster, options);
    const server = new EmbeddedServer(options, program, files, await connection(files));
    process.on("exit", server.#onExit);
    await server.#spawn();
    try {
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
    return this.#child?.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child?.pid !== undefined) {
      await stopProcess(child.pid, () => child.exitCode !== null || child.signalCode !== null, this.#options.clock);
    }
    await this.#supervisor;
    process.off("exit", this.#onExit);
  }

  async #spawn(): Promise<void> {
    const { log, socket, cluster } = this.#files;
    const grown = await stat(log).catch(() => undefined);
    if (grown && grown.size > LOG_LIMIT_BYTES) await truncate(log);
    await using output = await open(log, "a", 0o600);
    const settings = { ...SETTINGS, unix_socket_directories: socket, ...this.#options.settings };
    const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    this.#child = spawn(this.#program.postgres, ["-D", cluster, ...flags], {
      detached: true,
      stdio: ["ignore", output.fd, output.fd],
      cwd: cluster,
      ...this.#program.user,
    });
    this.#child.on("error", (error) => this.#options.log.error({ error: messageOf(error) }, "Cannot run PostgreSQL"));
  }

  async #ready(): Promise<void> {
    const { clock } = this.#options;
    const limit = clock.monotonic() + READY_LIMIT;
    for (;;) {
      const client = new pg.Client({ ...this.connection, database: "postgres", connectionTimeoutMillis: 2000 });
      client.on("error", () => {}); // reported by the query that it breaks
      try {
        await client.connect();
        const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [USER]);
        if (rowCount === 0) await client.query(`create database ${USER}`);
        return;
      } catch (error) {
        const died = this.#child?.exitCode != null || this.#child?.signalCode != null;
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

  /** Starts the server again whenever it ends without having been told to. */
  async #supervise(): Promise<void> {
    const { clock, log } = this.#options;
    for (;;) {
      await this.#exited();
      if (this.#stopping.signal.aborted) return;
      log.error(
        { code: this.#child?.exitCode, signal: this.#child?.signalCode },
        "PostgreSQL ended; starting it again",
      );
      try {
        await stopOrphan(this.#files.cluster, this.#options);
        await clock.sleep(ms(200), this.#stopping.signal);
        await this.#spawn();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        log.error({ error: messageOf(error) }, "Cannot start PostgreSQL again; trying once more");
        await clock.sleep(seconds(1), this.#stopping.signal).catch(() => {});
      }
    }
  }

  #exited(): Promise<void> {
    const child = this.#child;
    if (!child || child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
      return Promise.resolve();
    return new Promise((resolve) => child.once("exit", () => resolve()));
  }
}

async function prepare(program: PostgresProgram, files: Files): Promise<void> {
  const own = async (folder: string) => {
    await mkdir(join(folder, ".."), { recursive: true }); // not closed: the server's user has to pass through
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
  await rm(files.cluster, { recursive: true, force: true }); // what an interrupted initdb left
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

/** Stops the server that a killed coordinator left behind, if it still runs. */
async function stopOrphan(cluster: string, { clock, log }: EmbeddedServerOptions): Promise<void> {
  const text = await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => undefined);
  const pid = Number(text?.split("\n")[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1 || !(await isServerOf(pid, cluster))) return;
  log.info({ pid }, "Stopping the PostgreSQL that an earlier coordinator left running");
  await stopProcess(pid, () => !alive(pid), clock);
}

async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  if (!alive(pid)) return false;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => undefined);
  return command === undefined ? process.platform !== "linux" : command.includes(cluster);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Asks the server to stop fast, keeping every commit; after STOP_LIMIT insists (it then recovers at its next start). */
async function stopProcess(pid: number, gone: () => boolean, clock: Clock): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    kill(pid, signal);
    const limit = clock.monotonic() + STOP_LIMIT;
    while (!gone() && clock.monotonic() < limit) await clock.sleep(ms(10));
    if (gone()) return;
  }
  throw new FarmError(
    "timed-out",
    `Cannot stop PostgreSQL (process ${pid}): it still runs after ${(2 * STOP_LIMIT) / 1000} s`,
  );
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it ended meanwhile
  }
}
