/**
 * `Sql` over a pool of PostgreSQL connections: prepared statements, our types, and patience while the server is away.
 */
import pg from "pg";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, ms, seconds } from "../farm/ids.ts";
import type { Sql } from "./sql.ts";

const CONNECTIONS = 12;
/**
 * The server ends a statement that takes longer. A connection that is silent for a little longer than this is given up,
 * since a server that vanished without a word must not hold a loop for ever. Both are tried again, like a server that
 * is away.
 */
export const STATEMENT_LIMIT: Ms = seconds(50);
const SILENT_LIMIT = seconds(10);
/**
 * A statement that waits longer for a lock gives up its connection and tries again. Connections are few: those that
 * wait for a stopped coordinator's locks must not be all that another coordinator has.
 */
const LOCK_LIMIT: Ms = seconds(2);
/**
 * A transaction that is idle for longer loses its locks: its coordinator was stopped or lost its power. What runs
 * beside the database within a transaction, a look into a mirror, takes moments.
 */
const IDLE_IN_TRANSACTION_LIMIT = seconds(10);
/**
 * How long an unused connection stays open. A new one is expensive: its first use of each statement costs more than
 * many later ones.
 */
const IDLE_CONNECTION_LIMIT = minutes(5);
const FIRST_PAUSE = ms(20);
const LONGEST_PAUSE = ms(500);
const DEADLOCK_RETRIES = 5;

/** Rows carry bigint as number and timestamptz as EpochMs; everything else as pg has it. */
const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === pg.types.builtins.INT8) return Number;
    if (oid === pg.types.builtins.TIMESTAMPTZ) return Date.parse;
    if (oid === 1016) return (text: string) => text.slice(1, -1).split(",").filter(Boolean).map(Number); // bigint[]
    return pg.types.getTypeParser(oid, format);
  },
} as pg.CustomTypesConfig;

export interface PoolOptions {
  readonly connections?: number;
  readonly statementLimit?: Ms;
  readonly silentLimit?: Ms;
  readonly idleInTransactionLimit?: Ms;
}

export function openPool(config: pg.ClientConfig, log: Log, options: PoolOptions = {}): pg.Pool {
  const { connections = CONNECTIONS, statementLimit = STATEMENT_LIMIT, silentLimit = SILENT_LIMIT } = options;
  const pool = new pg.Pool({
    ...config,
    types,
    max: connections,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: IDLE_CONNECTION_LIMIT,
    query_timeout: statementLimit + silentLimit,
    keepAlive: true,
    options: "-c timezone=UTC",
    statement_timeout: statementLimit,
    lock_timeout: LOCK_LIMIT,
    idle_in_transaction_session_timeout: options.idleInTransactionLimit ?? IDLE_IN_TRANSACTION_LIMIT,
    application_name: "barnraiser",
  });
  // A connection may break while it is idle: in a transaction, between its statements, or between the pool and its next
  // user. The next query reports that. An error event that nobody listens to would end the program.
  pool.on("connect", (client) => client.on("error", () => {}));
  pool.on("error", (error) => {
    if (!pool.ending) log.warn({ error: messageOf(error) }, "Lost an idle database connection");
  });
  return pool;
}

export interface PooledSqlOptions {
  readonly pool: pg.Pool;
  readonly clock: Clock;
  /** How long a call goes on trying while the server is away. */
  readonly patience: Ms;
  /** Ends the waiting for a server that is away. */
  readonly signal: AbortSignal;
}

type Runner = Pick<pg.ClientBase, "query">;

export class PooledSql implements Sql {
  readonly #options: PooledSqlOptions;

  constructor(options: PooledSqlOptions) {
    this.#options = options;
  }

  query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    return this.#patiently(() => run<Row>(this.#options.pool, text, params));
  }

  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#patiently(async () => {
      const client = await this.#options.pool.connect();
      let broken: Error | undefined;
      try {
        await client.query("begin");
        const inner: Sql = {
          query: <Row>(text: string, params: readonly unknown[] = []) => run<Row>(client, text, params),
          tx: (nested) => nested(inner), // already inside one
        };
        const result = await work(inner);
        await client.query("commit");
        return result;
      } catch (error) {
        await client.query("rollback").catch((cause: Error) => {
          broken = cause;
        });
        throw error;
      } finally {
        client.release(broken);
      }
    });
  }

  async #patiently<T>(call: () => Promise<T>): Promise<T> {
    const { clock, patience, signal } = this.#options;
    const limit = clock.monotonic() + patience;
    let deadlocks = 0;
    for (let pause = FIRST_PAUSE; ; pause = ms(Math.min(pause * 2, LONGEST_PAUSE))) {
      try {
        return await call();
      } catch (error) {
        if (lostToAnother(error)) {
          if (++deadlocks > DEADLOCK_RETRIES) throw error;
          continue;
        }
        if (!serverIsAway(error)) throw error;
        if (signal.aborted || clock.monotonic() + pause > limit) {
          throw new FarmError("unavailable", `The database is away: ${messageOf(error)}`, { cause: error });
        }
      }
      await clock.sleep(pause, signal).catch(() => {}); // when aborted, one last try reports the database's own error
    }
  }
}

/** Statement text -> its name on the server: one plan per connection, no parsing after the first time. */
const names = new Map<string, string>();

function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `s${names.size}`;
    names.set(text, name);
  }
  return name;
}

async function run<Row>(runner: Runner, text: string, values: readonly unknown[]): Promise<Row[]> {
  const result = await runner.query({ name: nameOf(text), text, values: values as unknown[] });
  return result.rows as Row[];
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** A deadlock or a serialization failure: the transaction was rolled back and may simply run again. */
function lostToAnother(error: unknown): boolean {
  return ["40001", "40P01"].includes(codeOf(error));
}

/** The system's error codes for a server that cannot be reached. */
const UNREACHABLE = [
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
];
/**
 * The server's error codes for something that works another time: a statement, a wait for a lock or an idle transaction
 * over its limit; a standby that cannot write yet.
 */
const NOT_NOW = ["57014", "55P03", "25P03", "25006"];

/** Whether the server is not reachable, shuts down, starts up, is out of connections or space, or hung up. */
function serverIsAway(error: unknown): boolean {
  const code = codeOf(error);
  if (["08", "53", "57P"].some((kind) => code.startsWith(kind))) return true;
  if (UNREACHABLE.includes(code) || NOT_NOW.includes(code)) return true;
  return /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable/.test(
    messageOf(error),
  );
}
