import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { type EpochMs, epochMs, minutes, ms, personId, plus, seconds } from "../../farm/ids.ts";
import {
  authorizedKeyLine,
  encodeCertificateBody,
  encodePublicKey,
  encodeSignature,
  HOST_CERTIFICATE,
  readAuthorizedKey,
  readCertificate,
  SshWireError,
  sshString,
} from "../../wire/gomote/ssh-wire.ts";
import { GOOD_FOR, isOwners, refusal, signedFor, tokenOf } from "./certificates.ts";
import type { SshAuthority } from "./keys.ts";
import { isSignedBy, p256PublicKey, signedWithP256 } from "./signatures.ts";

const NOW: EpochMs = epochMs(1_795_000_000_000);
const ALICE = personId("u0000000000alice");
const SUBJECT = { instance: "alice-linux-amd64-0", owner: ALICE, token: "T0123" };

function authority(): SshAuthority {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { privateKey, publicKey: encodePublicKey(p256PublicKey(privateKey)) };
}

const CA = authority();
const user = p256PublicKey(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
const good = () => readCertificate(signedFor(user, SUBJECT, CA, NOW));
const why = (certificate = good(), name = SUBJECT.instance, now = NOW, ca = CA) => refusal(certificate, name, ca, now);

/** A certificate of this authority that says something else. */
function changed(change: Partial<ReturnType<typeof good>>, ca = CA) {
  const signed = encodeCertificateBody({ ...good(), ...change, signatureKey: ca.publicKey });
  return readCertificate(Buffer.concat([signed, sshString(encodeSignature(signedWithP256(ca.privateKey, signed)))]));
}

test("[gomote 41] a certificate says what the original's says, and grants what the gateway grants", () => {
  expect(good()).toMatchObject({
    key: user,
    serial: 1n,
    kind: 1,
    keyId: "go_build",
    principals: ["alice-linux-amd64-0@farmer.golang.org", ALICE],
    validAfter: BigInt(NOW / 1000),
    validBefore: BigInt(NOW / 1000) + 300n,
    criticalOptions: new Map(),
    extensions: new Map([
      ["permit-port-forwarding", ""],
      ["permit-pty", ""],
      ["token@barnraiser", "T0123"],
    ]),
  });
  expect(good().nonce.length).toBe(32);
  expect(good().nonce).not.toEqual(good().nonce);
  expect(tokenOf(good())).toBe("T0123");
  const plain = readCertificate(signedFor(user, { ...SUBJECT, token: undefined }, CA, NOW));
  expect([[...plain.extensions.keys()], tokenOf(plain)]).toEqual([["permit-port-forwarding", "permit-pty"], undefined]);
});

test("[gomote 42] it lets in from its first second to its last, and for one instance and one person only", () => {
  expect(why()).toBeUndefined();
  expect(why(good(), SUBJECT.instance, plus(NOW, ms(GOOD_FOR - 1)))).toBeUndefined();
  expect(why(good(), SUBJECT.instance, plus(NOW, GOOD_FOR))).toBe("it has expired");
  expect(why(good(), SUBJECT.instance, plus(NOW, ms(-seconds(10))))).toBeUndefined(); // clocks of two coordinators
  expect(why(good(), SUBJECT.instance, plus(NOW, ms(-minutes(1))))).toBe("it is not valid yet");
  expect(why(good(), "alice-linux-amd64-1")).toBe("it is for another instance");
  expect([isOwners(good(), ALICE), isOwners(good(), personId("u00000000000bob"))]).toEqual([true, false]);
});

test("another authority's, a host's, a restricted and a forged one are refused", () => {
  const other = authority();
  expect(why(readCertificate(signedFor(user, SUBJECT, other, NOW)))).toBe("another authority signed it");
  expect(why(changed({ kind: HOST_CERTIFICATE }))).toBe("it is not a user's");
  expect(why(changed({ criticalOptions: new Map([["force-command", "ls"]]) }))).toBe(
    'it has the option "force-command"',
  );
  expect(why(changed({ principals: [] }))).toBe("it is for another instance");
  // The authority's key is named, and another one signed.
  const signed = encodeCertificateBody(good());
  const forged = Buffer.concat([signed, sshString(encodeSignature(signedWithP256(other.privateKey, signed)))]);
  expect(why(readCertificate(forged))).toBe("its signature is not the authority's");
  // One bit of what was signed.
  const bytes = signedFor(user, SUBJECT, CA, NOW);
  const at = bytes.indexOf("alice-linux-amd64-0@");
  bytes.write("alice-linux-amd64-1@", at);
  expect(why(readCertificate(bytes), "alice-linux-amd64-1")).toBe("its signature is not the authority's");
});

test("what is no certificate, or no key, is refused however it is broken", () => {
  const bytes = signedFor(user, SUBJECT, CA, NOW);
  for (let length = 0; length < bytes.length; length++) {
    expect(() => readCertificate(bytes.subarray(0, length))).toThrow(SshWireError);
  }
  expect(() => readCertificate(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(/behind its end/);
  expect(() => readCertificate(encodePublicKey(user))).toThrow("it is a bare key, not a certificate");
  const line = authorizedKeyLine(encodePublicKey(user));
  expect(readAuthorizedKey(Buffer.from(`${line} alice@laptop\n`))).toEqual(user);
  const bad = [
    "",
    "x",
    "ssh-rsa AAAA",
    line.replace("ecdsa-sha2-nistp256 ", "ssh-ed25519 "),
    `${line}\n${line}`,
    "x".repeat(20_000),
  ];
  for (const text of bad) expect(() => readAuthorizedKey(Buffer.from(text))).toThrow(SshWireError);
  const point = Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 1)]);
  const noPoint = { type: "ecdsa-sha2-nistp256", fields: [Buffer.from("nistp256"), point] };
  expect(() => signedFor(noPoint, SUBJECT, CA, NOW)).toThrow("its numbers are no key");
  const small = { type: "ssh-rsa", fields: [Buffer.from([1, 0, 1]), Buffer.alloc(128, 0xff)] };
  expect(() => signedFor(small, SUBJECT, CA, NOW)).toThrow("an RSA key of 1024 bits");
});

test("a signature is right for its key, its bytes and an algorithm of that key only", () => {
  const data = Buffer.from("data");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const [key, signature] = [p256PublicKey(privateKey), signedWithP256(privateKey, data)];
  expect(isSignedBy(key, data, signature)).toBe(true);
  expect(isSignedBy(key, Buffer.from("datb"), signature)).toBe(false);
  expect(isSignedBy(user, data, signature)).toBe(false);
  expect(isSignedBy(key, data, { ...signature, algorithm: "ssh-rsa" })).toBe(false);
  expect(isSignedBy(key, data, { ...signature, bytes: Buffer.from("nonsense") })).toBe(false);
});
