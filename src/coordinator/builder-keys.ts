/**
 * Makes, lists and revokes builder keys from the command line, beside a running coordinator or without one.
 *
 * The key of a host type is derived from the master key. A machine's own key is random and shown once: the database has
 * its hash.
 */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { Ms } from "../farm/ids.ts";
import { makeMachineKey } from "../machines/keys.ts";
import { DataFolder, holderOf } from "../store/data-folder.ts";
import { type Database, openDatabase } from "../store/database.ts";
import { listMachineKeys, type MachineKey, revokeMachineKey } from "../store/keys.ts";
import { systemClock } from "../store/system-clock.ts";
import { builderKey } from "../wire/builder-key/builder-key.ts";
import { minute, table } from "./table.ts";

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * The master key of a farm: that in `file` when given, else that in SECRETS/master.key, which is made when `make` says
 * so. It is never printed.
 */
export async function masterKey(secrets: string, file: string, make: boolean): Promise<string> {
  const places = file ? [file] : [join(secrets, "master.key"), join(homedir(), "keys", "gobuilder-master.key")];
  for (const place of make && !file ? places.slice(0, 1) : places) {
    const text = await readFile(place, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" && !file) return undefined;
      throw new FarmError("bad-request", `Cannot read the master key ${place}: ${messageOf(error)}`, { cause: error });
    });
    if (text === undefined) continue;
    if (text.trim() === "") throw new FarmError("bad-request", `Cannot use the master key ${place}: it is empty`);
    return text.trim();
  }
  if (!make) {
    throw new FarmError(
      "not-found",
      `Cannot find a master key: there is no ${places.join(" and no ")}. Start the coordinator once, or give -masterkey FILE.`,
    );
  }
  const made = randomBytes(32).toString("hex");
  await writeFile(join(secrets, "master.key"), `${made}\n`, { mode: 0o600, flag: "wx" });
  return made;
}

/** The key that all machines of `hostType` may share. */
export async function sharedKey(secrets: string, masterKeyFile: string, hostType: string): Promise<string> {
  return builderKey(await masterKey(secrets, masterKeyFile, false), hostType);
}

export interface KeyFor {
  readonly machine: string;
  readonly hostType: string;
  /** How long the key is valid; 0: until it is revoked. */
  readonly expires: Ms;
}

/** Makes a new key for one machine: 32 hex digits, which the protocol takes like any other key. */
export async function issueKey(data: string, { machine, hostType, expires }: KeyFor): Promise<string> {
  for (const [what, value] of [
    ["machine", machine],
    ["host type", hostType],
  ] as const) {
    if (!/^[\w.-]{1,200}$/.test(value)) {
      throw new FarmError(
        "bad-request",
        `Cannot make a key: ${what} ${JSON.stringify(value)} should be letters, digits, ".", "_" and "-"`,
      );
    }
  }
  const made = await withDatabase(data, ({ sql }) =>
    makeMachineKey({ sql, clock: systemClock }, { name: machine, hostType, expiresIn: expires > 0 ? expires : null }),
  );
  return made.key;
}

/** All keys of machines as lines for people. */
export async function listKeys(data: string): Promise<string> {
  const keys = await withDatabase(data, ({ sql }) => listMachineKeys(sql));
  if (keys.length === 0) return "No machine has a key of its own yet. genbuilderkey -machine NAME TYPE makes one.\n";
  return table([["ID", "MACHINE", "TYPE", "MADE", "EXPIRES", "LAST USED", "STATE"], ...keys.map(row)]);
}

function row(key: MachineKey): string[] {
  const expired = key.expiresAt !== null && key.expiresAt <= systemClock.now();
  const state = key.revokedAt !== null ? `revoked ${minute(key.revokedAt, "")}` : expired ? "expired" : "good";
  return [
    key.id,
    key.machine,
    key.hostType,
    minute(key.madeAt, ""),
    minute(key.expiresAt, "never"),
    minute(key.lastUsedAt, "never"),
    state,
  ];
}

/** Revokes a key for good. A running coordinator ends the session that used it. */
export async function revokeKey(data: string, id: string): Promise<string> {
  return withDatabase(data, async ({ sql, bus }) => {
    const revoked = await revokeMachineKey(sql, id, systemClock.now());
    if (revoked === undefined)
      throw new FarmError(
        "not-found",
        `Cannot revoke ${JSON.stringify(id)}: there is no such key. genbuilderkey -list shows them.`,
      );
    bus.publish(`key:${id}`);
    return `Revoked ${id}\n`;
  });
}

/**
 * Works with the farm's database: that of DATABASE_URL, that of the running coordinator, or a server of its own until
 * `work` has ended.
 */
async function withDatabase<T>(data: string, work: (database: Database) => Promise<T>): Promise<T> {
  const url = process.env.DATABASE_URL;
  const running = (await holderOf(data)) !== undefined;
  await using stack = new AsyncDisposableStack();
  if (!url && !running) stack.use(await DataFolder.take(data));
  const database = stack.use(await openDatabase({ data, url, attach: running, clock: systemClock, log: silent }));
  return await work(database);
}
