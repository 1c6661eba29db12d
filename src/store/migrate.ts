/** Brings the schema (sql/NNN.do.NAME.sql) up to this program's version; refuses a database from a newer one. */
import { fileURLToPath } from "node:url";
import pg from "pg";
import Postgrator from "postgrator";
import type { Clock } from "../farm/clock.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { ms, seconds } from "../farm/ids.ts";
import { systemClock } from "./system-clock.ts";

/** Only one coordinator migrates at a time. */
const MIGRATION_LOCK = 0x6261726e; // "barn"

/** The folder of the numbered files: beside this file in the sources, beside the program in a build. */
const FOLDER = fileURLToPath(new URL("./sql", import.meta.url));

/** The error code of a server that starts up or recovers. */
const STARTING = "57P03";
const START_LIMIT = seconds(60);
/**
 * How long a migration waits for one lock. Whoever wants the table meanwhile waits behind the migration, so that pages of
 * coordinators of an earlier version would fail while it waits for a transaction of theirs. It gives up and tries again.
 */
const LOCK_LIMIT = ms(500);
/** The error codes of a lock that was not granted in time, and of a deadlock. */
const BUSY = ["55P03", "40P01"];
const BUSY_LIMIT = seconds(60);
const PAUSE = ms(200);

export async function migrate(
  config: pg.ClientConfig,
  folder: string = FOLDER,
  clock: Clock = systemClock,
): Promise<void> {
  const client = await connected(config, clock);
  try {
    await client.query("select pg_advisory_lock($1)", [MIGRATION_LOCK]);
    const postgrator = new Postgrator({
      migrationPattern: `${folder}/*`,
      driver: "pg",
      schemaTable: "schema_version",
      newline: "LF",
      validateChecksums: true,
      execQuery: (text) => client.query(text),
    });
    const known = await postgrator.getMaxVersion();
    const found = await postgrator.getDatabaseVersion();
    if (found > known) {
      throw new FarmError(
        "conflict",
        `Cannot use this database: its schema is version ${found}, this program knows ${known}. Start it with the newer Barnraiser that made it.`,
      );
    }
    const limit = clock.monotonic() + BUSY_LIMIT;
    while (!(await migrated(client, postgrator))) {
      if (clock.monotonic() > limit) {
        throw new FarmError(
          "unavailable",
          `Cannot bring the database up to date: for ${BUSY_LIMIT / 1000} s, others have held locks on its tables (a backup, perhaps). Start again when they have ended.`,
        );
      }
      await clock.sleep(PAUSE);
    }
  } catch (error) {
    if (error instanceof FarmError) throw error;
    throw new FarmError("unavailable", `Cannot bring the database up to date: ${messageOf(error)}`, { cause: error });
  } finally {
    await client.end();
  }
}

/**
 * Runs all missing files in one transaction: a file and the note that it ran are stored together, or neither is. False:
 * nothing was done, because coordinators of an earlier version use the same tables.
 */
async function migrated(client: pg.Client, postgrator: Postgrator): Promise<boolean> {
  try {
    await client.query("begin");
    await client.query(`set local lock_timeout = ${LOCK_LIMIT}`);
    await postgrator.migrate();
    await client.query("commit");
    return true;
  } catch (error) {
    await client.query("rollback").catch(() => {}); // the connection may be what broke
    if (error instanceof Error && "code" in error && BUSY.includes(String(error.code))) return false;
    throw error;
  }
}

/** Waits for a server that is there and not ready yet: it was restarted, perhaps together with this program. */
async function connected(config: pg.ClientConfig, clock: Clock): Promise<pg.Client> {
  const limit = clock.monotonic() + START_LIMIT;
  for (;;) {
    const client = new pg.Client(config);
    client.on("error", () => {}); // reported by the query that it breaks
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end().catch(() => {});
      const starting = error instanceof Error && "code" in error && error.code === STARTING;
      if (!starting || clock.monotonic() > limit) throw error;
    }
    await clock.sleep(PAUSE);
  }
}
