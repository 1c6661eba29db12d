/**
 * The farm's database: an embedded server in the data folder, or your own under `DATABASE_URL`.
 *
 *   sql      waits for a server that is away, for as long as PATIENCE. Loops and writers use it.
 *   hurried  gives up within moments. Pages use it, since they can say that the server is away.
 *   heart    has a connection of its own, so that the coordinator's sign of life never waits behind other work.
 */
import type pg from "pg";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, seconds } from "../farm/ids.ts";
import { unless } from "../farm/within.ts";
import { PostgresBus } from "./bus.ts";
import { openPool, PooledSql } from "./connection.ts";
import { connectionOf, EmbeddedServer } from "./embedded-server.ts";
import { migrate } from "./migrate.ts";
import type { Sql } from "./sql.ts";

/**
 * How long calls wait for the server. Longer than any restart or fail-over; after it the writer's work counts as lost.
 */
export const PATIENCE: Ms = minutes(15);
const HURRY = seconds(2);
const NEVER = new AbortController().signal;

export interface DatabaseOptions {
  /** The farm's data folder. The caller holds it (data-folder.ts) unless `attach` is given. */
  readonly data: string;
  /** A PostgreSQL URL. Undefined or empty: the embedded server is used. */
  readonly url?: string | undefined;
  /** Use the embedded server that a running coordinator has started, for a command beside it. */
  readonly attach?: boolean;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborts when the program is about to end: nothing waits any longer for a server that is away, or for opening. */
  readonly ending?: AbortSignal;
}

export class Database implements AsyncDisposable {
  readonly sql: Sql;
  readonly hurried: Sql;
  readonly heart: Sql;
  readonly bus: Bus;
  /** The embedded server, if this process started it. */
  readonly server: EmbeddedServer | undefined;
  readonly #stop: AbortController;
  readonly #stack: AsyncDisposableStack;

  constructor(
    parts: Pick<Database, "sql" | "hurried" | "heart" | "bus" | "server">,
    stop: AbortController,
    stack: AsyncDisposableStack,
  ) {
    this.sql = parts.sql;
    this.hurried = parts.hurried;
    this.heart = parts.heart;
    this.bus = parts.bus;
    this.server = parts.server;
    this.#stop = stop;
    this.#stack = stack;
  }

  /** Stops all waiting for a server that is away, present and future: the program is about to end. */
  hurry(): void {
    this.#stop.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Opens the database and migrates it. Throws FarmError saying what is wrong with the server, the URL or the schema. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { data, url, attach, clock, log, ending = NEVER } = options;
  await using stack = new AsyncDisposableStack();
  let server: EmbeddedServer | undefined;
  let config: pg.ClientConfig;
  if (url) {
    config = { connectionString: url };
  } else if (attach) {
    config = await connectionOf(data);
  } else {
    server = stack.use(await EmbeddedServer.start({ data, clock, log }));
    config = server.connection;
  }
  try {
    await unless(ending, () => migrate(config));
  } catch (error) {
    if (error instanceof FarmError || ending.aborted) throw error;
    const where = url ? "DATABASE_URL" : `the server of ${data}`;
    throw new FarmError("unavailable", `Cannot open the database (${where}): ${messageOf(error)}`, { cause: error });
  }
  const stop = new AbortController();
  const pool = openPool(config, log);
  stack.defer(() => pool.end());
  const own = openPool(config, log, { connections: 1 });
  stack.defer(() => own.end());
  stack.defer(() => stop.abort());
  const bus = stack.use(new PostgresBus(config, clock, log));
  const signal = AbortSignal.any([stop.signal, ending]);
  const sql = new PooledSql({ pool, clock, patience: PATIENCE, signal });
  const hurried = new PooledSql({ pool, clock, patience: HURRY, signal });
  const heart = new PooledSql({ pool: own, clock, patience: PATIENCE, signal });
  return new Database({ sql, hurried, heart, bus, server }, stop, stack.move());
}
