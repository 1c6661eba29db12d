/**
 * The gateway's keys, the same at every coordinator and after every restart:
 *
 *   authority  signs certificates of people
 *   host       shows people that this is the gateway
 *   client     lets the gateway into original buildlets. Each machine has a key of its own, which opens no other
 *              machine. It never changes: the first key that a buildlet was given counts there for ever. All these keys
 *              follow from one secret
 *
 * All are ECDSA on P-256, which every ssh knows. The database keeps them sealed (AES-256-GCM) under a key that follows
 * from the farm's master key.
 */
import {
  createCipheriv,
  createDecipheriv,
  createECDH,
  createPrivateKey,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  scryptSync,
} from "node:crypto";
import ssh2 from "ssh2";
import { FarmError } from "../../farm/errors.ts";
import type { EpochMs, MachineId } from "../../farm/ids.ts";
import type { Sql } from "../../store/sql.ts";
import { keepSshKey, keptSshKey } from "../../store/ssh-keys.ts";
import { encodePublicKey } from "../../wire/gomote/ssh-wire.ts";
import { p256PublicKey } from "./signatures.ts";

const NONCE = 12;
const TAG = 16;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
/** Bytes from which a key is made: so many more than a key has that every key is equally likely. */
const P256_BITS_FROM = 48;

export interface SshAuthority {
  readonly privateKey: KeyObject;
  /** The public key as ssh encodes it. */
  readonly publicKey: Buffer;
}

export interface SshPair {
  /** The private key as PEM. */
  readonly privateKey: string;
  /** The public key as `TYPE BASE64`. */
  readonly publicLine: string;
}

export interface GatewayKeys {
  readonly authority: SshAuthority;
  readonly host: SshPair;
  readonly client: ClientKeyOf;
}

/** The gateway's key for a machine that has an ssh server. */
export type ClientKeyOf = (machine: MachineId | null) => SshPair;

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
  // The library's own generator now and then makes a key that the library cannot read.
  const host = await kept("host", () => sec1(newP256()));
  const secret = await kept("client", () => randomBytes(32).toString("hex"));
  return {
    authority: { privateKey, publicKey: encodePublicKey(p256PublicKey(privateKey)) },
    host: pairOf(host),
    client: (machine) => pairOf(sec1(p256From(secret, `barnraiser ssh client 1 ${machine}`))),
  };
}

function pairOf(privateKey: string): SshPair {
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw new FarmError("internal", "Cannot read an ssh key", { cause: parsed });
  return { privateKey, publicLine: `${parsed.type} ${parsed.getPublicSSH().toString("base64")}` };
}

function sec1(key: KeyObject): string {
  return key.export({ type: "sec1", format: "pem" }).toString();
}

/** The key that follows from `secret` and `words`, always the same. */
function p256From(secret: string, words: string): KeyObject {
  const bits = Buffer.from(hkdfSync("sha256", secret, "", words, P256_BITS_FROM)).toString("hex");
  const d = Buffer.from((1n + (BigInt(`0x${bits}`) % (P256_ORDER - 1n))).toString(16).padStart(64, "0"), "hex");
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(d);
  const point = curve.getPublicKey(); // 4, x, y
  const text = (part: Buffer) => part.toString("base64url");
  const [x, y] = [text(point.subarray(1, 33)), text(point.subarray(33))] as const;
  return createPrivateKey({ format: "jwk", key: { kty: "EC", crv: "P-256", d: text(d), x, y } });
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
