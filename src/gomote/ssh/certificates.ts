/**
 * Certificates for the ssh gateway: what is signed, and what is let in. Both are pure.
 *
 * A certificate says for five minutes that the holder of its private key may connect to one instance, as one person. It
 * is asked for over gRPC with a token, and only this farm's gateway accepts it. A client that is in stays in when the
 * certificate expires, but not when that token has expired or was revoked. The certificate names the token for that.
 */
import { randomBytes } from "node:crypto";
import { type EpochMs, type Ms, minutes, type PersonId, seconds } from "../../farm/ids.ts";
import {
  type Certificate,
  type CertificateBody,
  encodeCertificateBody,
  encodeSignature,
  type PublicKey,
  readPublicKey,
  sshString,
  USER_CERTIFICATE,
} from "../../wire/gomote/ssh-wire.ts";
import type { SshAuthority } from "./keys.ts";
import { isSignedBy, keyObject, signedWithP256 } from "./signatures.ts";

/** How long a certificate is valid. */
export const GOOD_FOR: Ms = minutes(5);
/** How far the clock of the coordinator that signed a certificate may be ahead of ours. */
const SKEW: Ms = seconds(30);
const DOMAIN = "@farmer.golang.org";
/** What the gateway grants. It refuses anything else that ssh could ask for. */
const GRANTED = ["permit-port-forwarding", "permit-pty"];
/** The farm's own extension: the number of the token that asked for the certificate. */
const TOKEN = "token@barnraiser";

/** What a certificate is for. */
export interface Subject {
  readonly instance: string;
  readonly owner: PersonId;
  /** The number of the token that asked for the certificate. */
  readonly token: string | undefined;
}

/** The certificate of `key`, as bytes. Throws SshWireError for anything that is not a usable key. */
export function signedFor(key: PublicKey, subject: Subject, ca: SshAuthority, now: EpochMs): Buffer {
  const { instance, owner, token } = subject;
  keyObject(key);
  const since = BigInt(Math.floor(now / 1000));
  const body: CertificateBody = {
    key,
    nonce: randomBytes(32),
    serial: 1n,
    kind: USER_CERTIFICATE,
    keyId: "go_build",
    principals: [`${instance}${DOMAIN}`, owner],
    validAfter: since,
    validBefore: since + BigInt(GOOD_FOR / 1000),
    criticalOptions: new Map(),
    extensions: new Map([...GRANTED.map((name) => [name, ""] as const), ...(token ? [[TOKEN, token] as const] : [])]),
    signatureKey: ca.publicKey,
  };
  const signed = encodeCertificateBody(body);
  return Buffer.concat([signed, sshString(encodeSignature(signedWithP256(ca.privateKey, signed)))]);
}

/**
 * Why `certificate` does not let `user` in now; undefined: nothing in it speaks against that. Only the database knows
 * whether the instance has ended, and whose it is (`isOwners`).
 */
export function refusal(certificate: Certificate, user: string, ca: SshAuthority, now: EpochMs): string | undefined {
  const { kind, principals, criticalOptions, validAfter, validBefore } = certificate;
  const seconds = BigInt(Math.floor(now / 1000));
  if (!ca.publicKey.equals(certificate.signatureKey)) return "another authority signed it";
  if (!isSignedBy(readPublicKey(ca.publicKey), certificate.signed, certificate.signature))
    return "its signature is not the authority's";
  if (kind !== USER_CERTIFICATE) return "it is not a user's";
  const [option] = criticalOptions.keys();
  if (option !== undefined) return `it has the option ${JSON.stringify(option.slice(0, 100))}`;
  if (!principals.includes(`${user}${DOMAIN}`)) return "it is for another instance";
  if (seconds + BigInt(SKEW / 1000) < validAfter) return "it is not valid yet";
  if (seconds >= validBefore) return "it has expired";
  return undefined;
}

/** The number of the token that asked for the certificate. */
export function tokenOf({ extensions }: Certificate): string | undefined {
  return extensions.get(TOKEN);
}

/** Whether the certificate was made for `owner`, whose instance it is. */
export function isOwners({ principals }: Certificate, owner: PersonId): boolean {
  return principals.includes(owner);
}
