import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { expect, test } from "vitest";
import { ms, seconds } from "../farm/ids.ts";
import { openPool, PooledSql } from "./connection.ts";
import { migrate } from "./migrate.ts";
import { systemClock } from "./system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "./testing/database.ts";

/** A relay to a server that can fall silent: its connections stay open, and nothing passes any more. */
class Wire implements AsyncDisposable {
  readonly config: pg.ClientConfig;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets: Set<Socket>;

  private constructor(config: pg.ClientConfig, server: ReturnType<typeof createServer>, sockets: Set<Socket>) {
    this.config = config;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async to(config: pg.ClientConfig): Promise<Wire> {
    const sockets = new Set<Socket>();
    const server = createServer((near) => {
      const host = config.host ?? "";
      const far = host.startsWith("/")
        ? connect(`${host}/.s.PGSQL.${config.port}`)
        : connect({ host, port: config.port ?? 5432 });
      for (const socket of [near, far]) socket.on("error", () => {}).once("close", () => sockets.delete(socket));
      sockets.add(near).add(far);
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return new Wire({ ...config, host: "127.0.0.1", port }, server, sockets);
  }

  /** Silences the present connections. New ones are served. */
  silence(): void {
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** The database over `pool`, patient for a few seconds. */
function over(pool: pg.Pool): PooledSql {
  return new PooledSql({ pool, clock: systemClock, patience: seconds(20), signal: new AbortController().signal });
}

/** Locks `host_type` against all other connections. */
async function holdLock(database: TestDatabase): Promise<AsyncDisposable & { letGo(): Promise<void> }> {
  const holder = new pg.Client(database.config);
  await holder.connect();
  await holder.query("begin; lock table host_type in access exclusive mode");
  return {
    letGo: async () => void (await holder.query("rollback")),
    [Symbol.asyncDispose]: () => holder.end(),
  };
}

/** How many connections wait for a lock. */
async function waits({ sql }: TestDatabase): Promise<number> {
  const [row] = await sql.query<{ n: number }>(
    "select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
  );
  return row?.n ?? 0;
}

test("a connection whose server vanished without a word is given up, and the call goes through another", async () => {
  await using database = await freshDatabase();
  await using wire = await Wire.to(database.config);
  const pool = openPool(wire.config, quiet, { statementLimit: ms(300), silentLimit: ms(100) });
  await using _end = { [Symbol.asyncDispose]: () => pool.end() };
  const sql = over(pool);
  await sql.query("select 1");
  wire.silence();
  expect(await sql.query("select 2 as two")).toEqual([{ two: 2 }]);
  wire.silence();
  expect(await sql.tx((tx) => tx.query("select 3 as three"))).toEqual([{ three: 3 }]);
});

test("a statement over its limit is ended by the server and tried again; what waits for a lock gets it then", async () => {
  await using database = await freshDatabase();
  const pool = openPool(database.config, quiet, { statementLimit: ms(200) });
  await using _end = { [Symbol.asyncDispose]: () => pool.end() };
  const holder = await database.pool.connect();
  await holder.query("begin; lock table host_type in access exclusive mode");
  const waiting = over(pool).query("select count(*) as n from host_type");
  const tries = new Set<number>();
  const waits = async () => {
    const rows = await database.sql.query<{ begun: number }>(
      "select query_start as begun from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    for (const { begun } of rows) tries.add(begun);
    return tries.size;
  };
  await expect.poll(waits, { timeout: 10_000 }).toBeGreaterThan(1); // the first try was ended, and another waits
  await holder.query("rollback");
  holder.release();
  expect(await waiting).toEqual([{ n: 0 }]);
});

test("whoever waits for a lock lets go of its connection now and then: a pool of which all do serves others", async () => {
  await using database = await freshDatabase();
  const pool = openPool(database.config, quiet, { connections: 3 });
  await using _end = { [Symbol.asyncDispose]: () => pool.end() };
  const sql = over(pool);
  await using held = await holdLock(database);
  const waiting = Array.from({ length: 5 }, () => sql.query("select count(*) as n from host_type"));
  await expect.poll(() => waits(database)).toBe(3);
  expect(await sql.query("select 1 as one")).toEqual([{ one: 1 }]);
  expect(await waits(database)).toBeGreaterThan(0);
  await held.letGo();
  expect(await Promise.all(waiting)).toEqual(Array(5).fill([{ n: 0 }]));
});

test("a transaction that nobody goes on with is ended and its locks are free; when it is gone on with, it runs again", async () => {
  await using database = await freshDatabase();
  const pool = openPool(database.config, quiet, { idleInTransactionLimit: ms(200) });
  await using _end = { [Symbol.asyncDispose]: () => pool.end() };
  const hungUp = Promise.withResolvers<void>();
  pool.on("connect", (client) => client.once("end", hungUp.resolve));
  const goOn = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  let tries = 0;
  const stopped = over(pool).tx(async (tx) => {
    tries++;
    await tx.query("lock table host_type in access exclusive mode");
    locked.resolve();
    await goOn.promise;
    return tx.query("select count(*) as n from host_type");
  });
  await locked.promise;
  expect(await database.sql.query("select count(*) as n from host_type")).toEqual([{ n: 0 }]);
  await hungUp.promise; // the server has said why and hung up: two errors on one connection, while no query is under way
  goOn.resolve();
  expect(await stopped).toEqual([{ n: 0 }]);
  expect(tries).toBe(2);
});

test("a connection that breaks on its way from the pool to a transaction ends nothing but itself", async () => {
  await using database = await freshDatabase();
  const pool = openPool(database.config, quiet, { connections: 1 });
  await using _end = { [Symbol.asyncDispose]: () => pool.end() };
  const sql = over(pool);
  await sql.query("select 1");
  const unheard: unknown[] = [];
  pool.once("acquire", (client) => {
    // The pool does not listen any more, and the caller goes on in a moment. An event that comes together with the
    // previous answer arrives now.
    queueMicrotask(() => {
      try {
        client.emit("error", new Error("terminating connection due to administrator command"));
      } catch (error) {
        unheard.push(error);
      }
    });
  });
  expect(await sql.tx((tx) => tx.query("select 2 as two"))).toEqual([{ two: 2 }]);
  expect(unheard).toEqual([]);
});

test.each(["EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "53300", "25006", "25P03", "55P03"])(
  "%s means that the server is away: tried again",
  async (code) => {
    let calls = 0;
    const query = async () => {
      if (++calls === 1) throw Object.assign(new Error("no way"), { code });
      return { rows: [{ n: 1 }] };
    };
    const pool: Pick<pg.Pool, "connect"> & { query: typeof query } = { query, connect: () => Promise.reject() };
    expect(await over(pool as unknown as pg.Pool).query("select 1")).toEqual([{ n: 1 }]);
    expect(calls).toBe(2);
  },
);

test("a migration whose connection breaks says so", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-sql-"));
  await using _gone = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  await using database = await freshDatabase();
  await database.sql.query("drop table schema_version");
  await writeFile(join(folder, "001.do.one.sql"), "select pg_sleep(30);");
  const wire = await Wire.to(database.config);
  const migrating = migrate(wire.config, folder).catch((error: Error) => error.message);
  const sleeps = () =>
    database.sql.query("select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()");
  await expect.poll(async () => (await sleeps()).length, { timeout: 10_000 }).toBe(1);
  await wire[Symbol.asyncDispose]();
  expect(await migrating).toBe("Cannot bring the database up to date: Connection terminated unexpectedly");
});

test("a migration that fails in its middle leaves nothing behind, not even the files before it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-sql-"));
  await using _gone = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  await using database = await freshDatabase();
  await database.sql.query("drop table schema_version");
  await writeFile(join(folder, "001.do.one.sql"), "create table one_thing (id integer);");
  await writeFile(join(folder, "002.do.two.sql"), "create table other_thing (id integer); select 1 / 0;");
  await expect(migrate(database.config, folder)).rejects.toThrow("division by zero");
  const left = await database.sql.query("select to_regclass('one_thing') as one, to_regclass('other_thing') as other");
  expect(left).toEqual([{ one: null, other: null }]);
  await writeFile(join(folder, "002.do.two.sql"), "create table other_thing (id integer);");
  await migrate(database.config, folder);
  expect(await database.sql.query("select count(*) as n from other_thing")).toEqual([{ n: 0 }]);
});
