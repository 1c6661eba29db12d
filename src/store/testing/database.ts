/**
 * Real databases for tests: one embedded server for the whole run (global-setup.ts), and for each call a fresh migrated
 * database, cloned from a template.
 */
import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { seconds } from "../../farm/ids.ts";
import { PostgresBus } from "../bus.ts";
import { openPool, PooledSql } from "../connection.ts";
import type { Sql } from "../sql.ts";
import { systemClock } from "../system-clock.ts";

export const TEMPLATE = "farm_template";

declare module "vitest" {
  interface ProvidedContext {
    postgres: { host: string; port: number; user: string; password: string };
  }
}

export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

export class TestDatabase implements AsyncDisposable {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly pool: pg.Pool;
  /** The same as DATABASE_URL, for a real coordinator process. */
  readonly url: string;
  readonly config: pg.ClientConfig;
  readonly #stack: AsyncDisposableStack;

  constructor(config: pg.ClientConfig, stack: AsyncDisposableStack, clock: Clock) {
    this.config = config;
    this.url = `postgres://${config.user}:${config.password}@localhost/${config.database}?host=${encodeURIComponent(config.host ?? "")}`;
    this.pool = openPool(config, quiet);
    stack.defer(() => this.pool.end());
    this.sql = new PooledSql({ pool: this.pool, clock, patience: seconds(20), signal: new AbortController().signal });
    this.bus = stack.use(new PostgresBus(config, clock, quiet));
    this.#stack = stack;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** A real, migrated, empty database, dropped on disposal. */
export async function freshDatabase(clock: Clock = systemClock): Promise<TestDatabase> {
  const server = inject("postgres");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await admin(`create database ${name} template ${TEMPLATE} strategy file_copy`);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => admin(`drop database ${name} with (force)`));
  return new TestDatabase({ ...server, database: name }, stack.move(), clock);
}

async function admin(text: string): Promise<void> {
  const client = new pg.Client({ ...inject("postgres"), database: "postgres" });
  await client.connect();
  try {
    // PostgreSQL refuses two clones of one template at a time, so the second call waits.
    await client.query("select pg_advisory_lock(1)");
    await client.query(text);
  } finally {
    await client.end();
  }
}
