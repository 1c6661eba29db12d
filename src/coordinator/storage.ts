/**
 * What a coordinator keeps: its data folder, the database, its row there among the farm's coordinators, the secrets
 * that they share, logs and blobs. All that survives a kill is in here. Everything else is made again from it.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { Blobs } from "../blobs/blobs.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { type CoordinatorId, coordinatorId, type EpochMs } from "../farm/ids.ts";
import { Logs } from "../logs/logs.ts";
import { coordinatorEnded, coordinatorStarted, endPredecessors } from "../store/coordinators.ts";
import { DataFolder } from "../store/data-folder.ts";
import { type Database, openDatabase } from "../store/database.ts";
import { closeLeftSessions } from "../store/machines.ts";
import type { Sql } from "../store/sql.ts";
import type { CertificateOptions } from "../web/certificate.ts";
import type { CoordinatorOptions } from "./options.ts";
import { openSecrets, type Secrets } from "./secrets.ts";
import { VERSION } from "./version.ts";

/** The parts of a coordinator that nearly every other part needs. */
export interface Common {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
}

export interface Storage {
  readonly folder: DataFolder;
  readonly database: Database;
  /** For loops and writers: `sql` waits while the database is away. */
  readonly common: Common;
  /** For pages, and for work that can be done later: `sql` gives up within moments. */
  readonly hurried: Common;
  readonly startedAt: EpochMs;
  /** The database is embedded: there can be no other coordinator. */
  readonly alone: boolean;
  readonly secrets: Secrets;
  readonly tlsFiles: Omit<CertificateOptions, "now">;
  readonly logs: Logs;
  readonly blobs: Blobs;
}

/**
 * Takes the data folder, and is a coordinator of the farm from then on. Throws a FarmError that says what it could not
 * have.
 */
export async function openStorage(
  stack: AsyncDisposableStack,
  options: CoordinatorOptions,
  stopping: AbortSignal,
): Promise<Storage> {
  const { clock, log, data } = options;
  const startedAt = clock.now();
  const coordinator = coordinatorId(`P${randomBytes(5).toString("hex").slice(0, 9)}`);
  const url = process.env.DATABASE_URL;
  const alone = !url;
  const folder = stack.use(await DataFolder.take(data));
  const database = stack.use(await openDatabase({ data, url, clock, log, ending: options.ending }));
  const { sql, bus } = database;
  const identity = await folder.identity();
  const self = { id: coordinator, host: hostname(), pid: process.pid, version: VERSION, folder: identity };
  await coordinatorStarted(sql, self, startedAt);
  await endPredecessors(sql, coordinator, identity, startedAt);
  stack.defer(() => coordinatorEnded(database.hurried, coordinator, clock.now()).catch(() => {})); // recovery will find out
  await closeLeftSessions(sql, coordinator, alone, startedAt);

  const shared = options.secrets || data;
  const { certFile = "", keyFile = "", names = [] } = options.certificate ?? {};
  const tlsFiles = { folder: join(data, "tls"), caFolder: join(shared, "tls"), names, certFile, keyFile };
  const secrets = await openSecrets(sql, shared, options.masterKeyFile ?? "", tlsFiles, startedAt);
  const logs = stack.use(new Logs({ sql, bus, clock, stopping }));
  const blobs = await Blobs.open(join(data, "blobs"), clock.now());
  const common = { sql, bus, clock, log, coordinator };
  const hurried = { ...common, sql: database.hurried };
  return { folder, database, common, hurried, startedAt, alone, secrets, tlsFiles, logs, blobs };
}
