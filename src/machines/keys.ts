/**
 * Who may register: the key that all machines of a host type share, and keys of single machines.
 *
 * The shared key is computed from the master key and the host type, as in the protocol. It has no identity and no end,
 * so a host type can refuse it (`sharedKey: false`). A machine's own key is random and looks the same on the wire. It
 * works for one machine name of one host type only, may expire, and can be revoked; the database has only its SHA-256.
 *
 * A machine that is refused receives the reason. No key is ever logged or echoed, and all comparisons take the same
 * time.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../farm/clock.ts";
import { type EpochMs, type Ms, plus } from "../farm/ids.ts";
import { insertMachineKey, type MachineKey, machineKeysBySha256, machineKeysUsed } from "../store/keys.ts";
import type { Sql } from "../store/sql.ts";
import { builderKey, DEV_MASTER_KEY, KEY_LENGTH } from "../wire/builder-key/builder-key.ts";
import { Batch } from "./batch.ts";

export interface KeysDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly masterKey: string;
  /** Whether keys from the public development master key count. Then all who can reach the port can register. */
  readonly allowDevKey: boolean;
  /** Whether the shared key of a host type counts. */
  readonly sharedKey: (hostType: string) => boolean;
}

export interface Claimant {
  readonly hostType: string;
  readonly name: string;
  readonly key: string;
}

export type KeyCheck =
  | { readonly ok: true /** Null: the shared key. */; readonly keyId: string | null }
  | { readonly ok: false; readonly reason: string };

export class Keys {
  readonly #deps: KeysDeps;
  readonly #masters: readonly string[];
  readonly #lookUp: Batch<Buffer, Map<string, MachineKey>>;
  readonly #used: Batch<string, void>;

  constructor(deps: KeysDeps) {
    this.#deps = deps;
    this.#masters = [deps.masterKey, ...(deps.allowDevKey ? [DEV_MASTER_KEY] : [])].filter((key) => key.trim() !== "");
    this.#lookUp = new Batch(500, async (hashes) => {
      const keys = await machineKeysBySha256(deps.sql, hashes);
      return new Map(keys.map((key) => [key.sha256.toString("hex"), key]));
    });
    this.#used = new Batch(500, (ids) => machineKeysUsed(deps.sql, ids, deps.clock.now()));
  }

  async check(claimant: Claimant): Promise<KeyCheck> {
    const { key, hostType, name } = claimant;
    if (key === "") return refused("Header X-Go-Builder-Key is missing or empty.");
    const given = sha256(key);
    const shared = this.#masters.some((master) => timingSafeEqual(sha256(builderKey(master, hostType)), given));
    if (shared) {
      if (this.#deps.sharedKey(hostType)) return { ok: true, keyId: null };
      return refused(
        `The shared key of host type ${JSON.stringify(hostType)} is switched off; ask the operator for a key of this machine's own (genbuilderkey -machine).`,
      );
    }
    const found = (await this.#lookUp.add(given)).get(given.toString("hex"));
    if (!found) return refused(`The key is not valid for host type ${JSON.stringify(hostType)}.`);
    if (found.hostType !== hostType || found.machine !== name) {
      return refused(
        `The key ${found.id} was made for another machine or host type, not for ${JSON.stringify(name)} of ${JSON.stringify(hostType)}.`,
      );
    }
    if (found.revokedAt !== null) return refused(`The key ${found.id} was revoked ${date(found.revokedAt)}.`);
    if (found.expiresAt !== null && found.expiresAt <= this.#deps.clock.now()) {
      return refused(`The key ${found.id} expired ${date(found.expiresAt)}.`);
    }
    this.#used.add(found.id).catch(() => {}); // only for information: machines must get in while the database is away
    return { ok: true, keyId: found.id };
  }
}

export interface MadeKey {
  readonly id: string;
  /** The key, to be shown once, to the person who takes it to the machine. */
  readonly key: string;
  readonly expiresAt: EpochMs | null;
}

/** Makes and stores a key for one machine. */
export async function makeMachineKey(
  deps: Pick<KeysDeps, "sql" | "clock">,
  machine: { readonly name: string; readonly hostType: string; readonly expiresIn: Ms | null },
): Promise<MadeKey> {
  const key = randomBytes(KEY_LENGTH / 2).toString("hex");
  const id = `K${randomBytes(5).toString("hex").slice(0, 9)}`;
  const madeAt = deps.clock.now();
  const expiresAt = machine.expiresIn === null ? null : plus(madeAt, machine.expiresIn);
  const { hostType, name } = machine;
  await insertMachineKey(deps.sql, { id, hostType, machine: name, sha256: sha256(key), madeAt, expiresAt });
  return { id, key, expiresAt };
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}

function refused(reason: string): KeyCheck {
  return { ok: false, reason };
}

function date(at: EpochMs): string {
  return new Date(at).toISOString().replace(/\.\d+Z$/, "Z");
}
