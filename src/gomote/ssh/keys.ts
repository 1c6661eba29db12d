/**
 * The gateway's keys, the same at every coordinator and after every restart:
 *
 *   authority  signs certificates of people
 *   host       shows people that this is the gateway
 *   client     lets the gateway into original buildlets; never the host key, which would let them pose as the gateway
 *
 * All are ECDSA on P-256, which every ssh knows. They are in the database, sealed (AES-256-GCM) under a key that follows from the farm's master key.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  scryptSync,
} from "node:crypto";
import ssh2 from "ssh2";
import { FarmError } from "../../farm/errors.ts";
import type { EpochMs } from "../../farm/ids.ts";
import type { Sql } from "../../store/sql.ts";
import { keepSshKey, keptSshKey } from "../../store/ssh-keys.ts";
import { encodePublicKey } from "../../wire/gomote/ssh-wire.ts";
import { p256PublicKey } from "./signatures.ts";

const NONCE = 12;
const TAG = 16;

export interface SshAuthority {
  readonly privateKey: KeyObject;
  /** As ssh has it. */
  readonly publicKey: Buffer;
}

export interface SshPair {
  /** PEM. */
  readonly privateKey: string;
  /** `TYPE BASE64` */
  readonly publicLine: string;
}

export interface GatewayKeys {
  readonly authority: SshAuthority;
  readonly host: SshPair;
  readonly client: SshPair;
}

export async function openGatewayKeys(sql: Sql, masterKey: string, now: EpochMs): Promise<GatewayKeys> {
  const sealing = scryptSync(masterKey, "barnraiser ssh keys 1", 32);
  const sealer = scryptSync(masterKey, "barnraiser ssh sealer 1", 8).toString("hex");
  const kept = async (name: string, make: () => string): Promise<string> => {
    const before = await keptSshKey(sql, name, sealer);
    if (!before) await keepSshKey(sql, { name, sealer, sealed: sealed(make(), sealing) }, now);
    const there = before ?? (await keptSshKey(sql, name, sealer));
    if (!there) throw new FarmError("internal", `Cannot keep the ssh key ${JSON.stringify(name)}: it is not there`);
    return opened(name, there, sealing);
  };
  const pem = await kept("authority", () => newP256().export({ type: "pkcs8", format: "pem" }).toString());
  const privateKey = createPrivateKey(pem);
  const pair = async (name: string): Promise<SshPair> => {
    // The library's own generator makes one now and then that the library cannot read.
    const text = await kept(name, () => newP256().export({ type: "sec1", format: "pem" }).toString());
    const parsed = ssh2.utils.parseKey(text);
    if (parsed instanceof Error) throw new FarmError("internal", `Cannot read the ssh key ${name}`, { cause: parsed });
    return { privateKey: text, publicLine: `${parsed.type} ${parsed.getPublicSSH().toString("base64")}` };
  };
  return {
    authority: { privateKey, publicKey: encodePublicKey(p256PublicKey(privateKey)) },
    host: await pair("host"),
    client: await pair("client"),
  };
}

function newP256(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
}

function sealed(text: string, key: Buffer): Buffer {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), body]);
}

function opened(name: string, bytes: Uint8Array, key: Buffer): string {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, NONCE));
    decipher.setAuthTag(bytes.subarray(NONCE, NONCE + TAG));
    return Buffer.concat([decipher.update(bytes.subarray(NONCE + TAG)), decipher.final()]).toString("utf8");
  } catch (error) {
    throw new FarmError("internal", `Cannot open the ssh key ${JSON.stringify(name)} of the database: it was changed`, {
      cause: error,
    });
  }
}
