/**
 * Keys, certificates and signatures of ssh, as bytes. Only what is parsed and made here; that a signature is right others check.
 *
 *   string       u32 length, bytes            mpint   a string with a big-endian number, a zero byte before a high bit
 *   public key   string TYPE, then ssh-ed25519: string point; ecdsa-sha2-nistpN: string curve, string 04 x y; ssh-rsa: mpint e, mpint n
 *   certificate  string TYPE-cert-v01@openssh.com, string nonce, the key's fields, u64 serial, u32 kind (1 user, 2 host), string key id,
 *                string principals (strings), u64 valid after, u64 valid before (seconds since 1970), string critical options,
 *                string extensions (both: pairs of strings, sorted; a value is a string in its string), string reserved, string the CA's public key, string signature
 *   signature    string algorithm, string bytes; ECDSA's bytes are mpint r, mpint s. A certificate's is over all that is before it
 *
 * One line of authorized_keys is `TYPE BASE64 comment`. Errors: SshWireError with a sentence about what is wrong.
 * Source: RFC 4253, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.certkeys.
 */

const CERTIFICATE_SUFFIX = "-cert-v01@openssh.com";
export const USER_CERTIFICATE = 1;
export const HOST_CERTIFICATE = 2;
/** Keys are below 2 KiB; a certificate has its CA's, too. */
const MAX_KEY: number = 16 * 1024;

/** How many fields a key has behind its type. */
const FIELDS: { readonly [type: string]: number } = {
  "ssh-ed25519": 1,
  "ecdsa-sha2-nistp256": 2,
  "ecdsa-sha2-nistp384": 2,
  "ecdsa-sha2-nistp521": 2,
  "ssh-rsa": 2,
};

export class SshWireError extends Error {
  override readonly name = "SshWireError";
}

export interface PublicKey {
  readonly type: string;
  readonly fields: readonly Buffer[];
}

/** Names with their values; "" is no value, that the name is there says all. */
export type Options = ReadonlyMap<string, string>;

export interface CertificateBody {
  readonly key: PublicKey;
  readonly nonce: Uint8Array;
  readonly serial: bigint;
  readonly kind: number;
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: bigint;
  readonly validBefore: bigint;
  readonly criticalOptions: Options;
  readonly extensions: Options;
  /** The public key of whoever signed it. */
  readonly signatureKey: Uint8Array;
}

export interface Certificate extends CertificateBody {
  /** What the signature is over. */
  readonly signed: Buffer;
  readonly signature: Signature;
}

export interface Signature {
  readonly algorithm: string;
  readonly bytes: Buffer;
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Buffer {
    if (length > this.left) throw new SshWireError("it ends in the middle of a field");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  u32(): number {
    return this.take(4).readUInt32BE(0);
  }

  u64(): bigint {
    return this.take(8).readBigUInt64BE(0);
  }

  string(): Buffer {
    return this.take(this.u32());
  }

  text(): string {
    return this.string().toString("utf8");
  }

  /** What follows, as strings to the end. */
  strings(): Buffer[] {
    const all: Buffer[] = [];
    while (this.left > 0) all.push(this.string());
    return all;
  }

  done(): void {
    if (this.left > 0) throw new SshWireError(`there are ${this.left} bytes behind its end`);
  }
}

export function sshString(value: string | Uint8Array): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([length, bytes]);
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value, 0);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

/** `number` without leading zeros, as an mpint's bytes. */
export function mpint(number: Uint8Array): Buffer {
  let from = 0;
  while (from < number.length && number[from] === 0) from++;
  const bytes = number.subarray(from);
  const high = ((bytes[0] ?? 0) & 0x80) !== 0;
  return sshString(high ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes);
}

/** The key in one line of authorized_keys. */
export function readAuthorizedKey(line: Uint8Array): PublicKey {
  if (line.length > MAX_KEY) throw new SshWireError(`it has ${line.length} bytes, more than ${MAX_KEY}`);
  const text = Buffer.from(line).toString("utf8").trim();
  const [, type, base64] = /^([\w.@-]+)[ \t]+([A-Za-z0-9+/]+={0,2})(?:[ \t][^\r\n]*)?$/.exec(text) ?? [];
  if (type === undefined || base64 === undefined)
    throw new SshWireError("it is not one line of authorized_keys, TYPE BASE64 COMMENT");
  const key = readPublicKey(Buffer.from(base64, "base64"));
  if (key.type !== type) throw new SshWireError(`it says ${type} and holds ${key.type}`);
  return key;
}

export function readPublicKey(blob: Uint8Array): PublicKey {
  const reader = new Reader(blob);
  const key = keyBehind(reader.text(), reader);
  reader.done();
  return key;
}

function keyBehind(type: string, reader: Reader): PublicKey {
  const count = Object.hasOwn(FIELDS, type) ? FIELDS[type] : undefined;
  if (count === undefined)
    throw new SshWireError(
      `a key of type ${JSON.stringify(type.slice(0, 60))} cannot be used: want ${Object.keys(FIELDS).join(", ")}`,
    );
  return { type, fields: Array.from({ length: count }, () => reader.string()) };
}

export function encodePublicKey({ type, fields }: PublicKey): Buffer {
  return Buffer.concat([sshString(type), ...fields.map(sshString)]);
}

export function readSignature(blob: Uint8Array): Signature {
  const reader = new Reader(blob);
  const signature = { algorithm: reader.text(), bytes: reader.string() };
  reader.done();
  return signature;
}

/** r and s of an ECDSA signature's bytes, each `size` bytes long and one behind the other. */
export function ecdsaNumbers(bytes: Uint8Array, size: number): Buffer {
  const reader = new Reader(bytes);
  const numbers = [reader.string(), reader.string()].map((number) => fixed(number, size));
  reader.done();
  return Buffer.concat(numbers);
}

/** `number` as exactly `size` bytes. */
export function fixed(number: Uint8Array, size: number): Buffer {
  let from = 0;
  while (from < number.length && number[from] === 0) from++;
  const bytes = number.subarray(from);
  if (bytes.length > size) throw new SshWireError(`a number has ${bytes.length} bytes, more than ${size}`);
  return Buffer.concat([Buffer.alloc(size - bytes.length), bytes]);
}

export function readCertificate(blob: Uint8Array): Certificate {
  if (blob.length > MAX_KEY) throw new SshWireError(`it has ${blob.length} bytes, more than ${MAX_KEY}`);
  const reader = new Reader(blob);
  const type = reader.text();
  if (!type.endsWith(CERTIFICATE_SUFFIX)) throw new SshWireError("it is a bare key, not a certificate");
  const nonce = reader.string();
  const key = keyBehind(type.slice(0, -CERTIFICATE_SUFFIX.length), reader);
  const serial = reader.u64();
  const kind = reader.u32();
  const keyId = reader.text();
  const principals = new Reader(reader.string()).strings().map((principal) => principal.toString("utf8"));
  const [validAfter, validBefore] = [reader.u64(), reader.u64()];
  const [criticalOptions, extensions] = [optionsOf(reader.string()), optionsOf(reader.string())];
  reader.string(); // reserved
  const signatureKey = reader.string();
  const signed = Buffer.from(blob.slice(0, reader.at));
  const signature = readSignature(reader.string());
  reader.done();
  const body = { key, nonce, serial, kind, keyId, principals, validAfter, validBefore, criticalOptions, extensions };
  return { ...body, signatureKey, signed, signature };
}

/** The bytes that are to be signed. */
export function encodeCertificateBody(body: CertificateBody): Buffer {
  const pairs = (options: Options) => {
    const sorted = [...options].sort(([one], [other]) => (one < other ? -1 : 1));
    const values = sorted.flatMap(([name, value]) => [sshString(name), sshString(value && sshString(value))]);
    return sshString(Buffer.concat(values));
  };
  return Buffer.concat([
    sshString(`${body.key.type}${CERTIFICATE_SUFFIX}`),
    sshString(body.nonce),
    ...body.key.fields.map(sshString),
    u64(body.serial),
    u32(body.kind),
    sshString(body.keyId),
    sshString(Buffer.concat(body.principals.map(sshString))),
    u64(body.validAfter),
    u64(body.validBefore),
    pairs(body.criticalOptions),
    pairs(body.extensions),
    sshString(""),
    sshString(body.signatureKey),
  ]);
}

export function encodeSignature({ algorithm, bytes }: Signature): Buffer {
  return Buffer.concat([sshString(algorithm), sshString(bytes)]);
}

/** `TYPE BASE64` of a key or a certificate. */
export function authorizedKeyLine(blob: Uint8Array): string {
  return `${new Reader(blob).text()} ${Buffer.from(blob).toString("base64")}`;
}

function optionsOf(pairs: Uint8Array): Options {
  const reader = new Reader(pairs);
  const options = new Map<string, string>();
  while (reader.left > 0) {
    const name = reader.text();
    if (reader.left === 0) throw new SshWireError("an option has no value");
    const value = new Reader(reader.string());
    options.set(name, value.left === 0 ? "" : value.text());
    value.done();
  }
  return options;
}
