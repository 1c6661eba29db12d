/** Checking and making ssh's signatures with node:crypto. SHA-1 is not among the algorithms. */
import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import {
  ecdsaNumbers,
  fixed,
  mpint,
  type PublicKey,
  type Signature,
  SshWireError,
} from "../../wire/gomote/ssh-wire.ts";

const CURVES: { readonly [type: string]: { readonly crv: string; readonly size: number; readonly hash: string } } = {
  "ecdsa-sha2-nistp256": { crv: "P-256", size: 32, hash: "sha256" },
  "ecdsa-sha2-nistp384": { crv: "P-384", size: 48, hash: "sha384" },
  "ecdsa-sha2-nistp521": { crv: "P-521", size: 66, hash: "sha512" },
};
const RSA_HASHES: { readonly [algorithm: string]: string } = { "rsa-sha2-256": "sha256", "rsa-sha2-512": "sha512" };
const RSA_BITS = { least: 2048, most: 8192 };

/** The key as node:crypto has it. Throws SshWireError for anything that is not a usable key. */
export function keyObject({ type, fields }: PublicKey): KeyObject {
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = fields;
  const url = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64url");
  try {
    if (type === "ssh-ed25519")
      return createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x: url(fixed(first, 32)) } });
    const curve = CURVES[type];
    if (curve) {
      const { crv, size } = curve;
      if (second.length !== 1 + 2 * size || second[0] !== 4) throw new SshWireError("its point is not plain");
      const [x, y] = [url(second.subarray(1, 1 + size)), url(second.subarray(1 + size))];
      return createPublicKey({ format: "jwk", key: { kty: "EC", crv, x, y } });
    }
    const bits = bitsOf(second);
    if (bits < RSA_BITS.least || bits > RSA_BITS.most)
      throw new SshWireError(`an RSA key of ${bits} bits cannot be used: want ${RSA_BITS.least} to ${RSA_BITS.most}`);
    const [n, e] = [url(fixed(second, Math.ceil(bits / 8))), url(first)];
    return createPublicKey({ format: "jwk", key: { kty: "RSA", n, e } });
  } catch (error) {
    if (error instanceof SshWireError) throw error;
    throw new SshWireError("its numbers are no key", { cause: error });
  }
}

/** Whether `signature` over `data` was made with the private part of `key`. */
export function isSignedBy(key: PublicKey, data: Uint8Array, { algorithm, bytes }: Signature): boolean {
  const curve = CURVES[key.type];
  const rsa = key.type === "ssh-rsa" ? RSA_HASHES[algorithm] : undefined;
  if (algorithm !== key.type && rsa === undefined) return false;
  try {
    const object = keyObject(key);
    if (key.type === "ssh-ed25519") return verify(null, data, object, bytes);
    if (curve)
      return verify(curve.hash, data, { key: object, dsaEncoding: "ieee-p1363" }, ecdsaNumbers(bytes, curve.size));
    return rsa !== undefined && verify(rsa, data, object, bytes);
  } catch (error) {
    if (error instanceof SshWireError) return false;
    throw error;
  }
}

/** The signature of `data` by an ECDSA key on P-256. */
export function signedWithP256(key: KeyObject, data: Uint8Array): Signature {
  const both = sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });
  const bytes = Buffer.concat([mpint(both.subarray(0, 32)), mpint(both.subarray(32))]);
  return { algorithm: "ecdsa-sha2-nistp256", bytes };
}

/** The public part of a P-256 key, as ssh has it. */
export function p256PublicKey(key: KeyObject): PublicKey {
  const { x = "", y = "" } = createPublicKey(key).export({ format: "jwk" });
  const point = [x, y].map((number) => fixed(Buffer.from(number, "base64url"), 32));
  return {
    type: "ecdsa-sha2-nistp256",
    fields: [Buffer.from("nistp256"), Buffer.concat([Buffer.from([4]), ...point])],
  };
}

function bitsOf(number: Uint8Array): number {
  const at = number.findIndex((byte) => byte !== 0);
  return at === -1 ? 0 : (number.length - at - 1) * 8 + 32 - Math.clz32(number[at] ?? 0);
}
