/**
 * The TLS port's certificate. Either the farm has its own CA and a server certificate signed by it, made on first start
 * and renewed in time; or both PEM files are the operator's. This is the only file that issues certificates.
 *
 *   SECRETS/tls/ca.pem      the file that owners give to -ca-file; valid for CA_DAYS
 *   SECRETS/tls/ca-key.pem  0600
 *   DATA/tls/server.pem     for localhost, loopback addresses, this host's names, and the names of the options
 *   DATA/tls/server-key.pem 0600
 */
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";

const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
/** Some systems refuse server certificates that are valid for longer. */
const SERVER_DAYS = 397;
const RENEW_BEFORE_DAYS = 60;

const ALGORITHM: EcKeyGenParams & EcdsaParams = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** The CA certificate's file, for `-ca-file`. */
  readonly caFile: string;
}

export interface CertificateOptions {
  /** The folder DATA/tls. */
  readonly folder: string;
  /** SECRETS/tls, which holds the CA that all coordinators of a farm share. Undefined: `folder`. */
  readonly caFolder?: string;
  /** Further names or addresses that machines dial. */
  readonly names: readonly string[];
  readonly now: EpochMs;
  /** The operator's own PEM files, to be served instead. Both are given, or neither. */
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** The certificate to serve, made or renewed when needed. Throws FarmError that names the file that cannot be used. */
export async function certificate(options: CertificateOptions): Promise<Certificate> {
  const { folder, certFile, keyFile } = options;
  if (certFile || keyFile) {
    if (!certFile || !keyFile)
      throw new FarmError("bad-request", "Cannot serve TLS: -tls-cert and -tls-key go together");
    return { cert: await readPem(certFile), key: await readPem(keyFile), caFile: certFile };
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = (name: string) => join(folder, name);
  const caFolder = options.caFolder ?? folder;
  const caPath = (name: string) => join(caFolder, name);
  const foundCa = await load(caPath("ca.pem"), caPath("ca-key.pem"), options.now, []);
  if (!foundCa) await mkdir(caFolder, { recursive: true, mode: 0o700 });
  const ca = foundCa ?? (await makeCa(caPath, options.now));
  const names = [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...addresses(), ...options.names])].filter(
    Boolean,
  );
  const found = await load(path("server.pem"), path("server-key.pem"), options.now, names);
  const ours = found !== undefined && new X509Certificate(found.cert).checkIssued(new X509Certificate(ca.cert));
  const server = found && ours ? found : await makeServer(path, ca, names, options.now);
  return { ...server, caFile: caPath("ca.pem") };
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function addresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map((entry) => entry.address.replace(/%.*/, "")),
  );
}

async function readPem(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new FarmError("bad-request", `Cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * The stored certificate and key. Undefined when they are missing, cut off, about to expire, or lack one of `names`.
 */
async function load(
  certFile: string,
  keyFile: string,
  now: EpochMs,
  names: readonly string[],
): Promise<Pair | undefined> {
  try {
    const [cert, key] = await Promise.all([readFile(certFile, "utf8"), readFile(keyFile, "utf8")]);
    const parsed = new X509Certificate(cert);
    const good =
      parsed.validToDate.getTime() - now > RENEW_BEFORE_DAYS * DAY_MS && parsed.validFromDate.getTime() <= now;
    const named = names.every((name) => parsed.checkHost(name) !== undefined || parsed.checkIP(name) !== undefined);
    return good && named ? { cert, key } : undefined;
  } catch {
    return undefined;
  }
}

async function makeCa(path: (name: string) => string, now: EpochMs): Promise<Pair> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [`Barnraiser CA of ${hostname()}`] }],
    notBefore: new Date(now - DAY_MS),
    notAfter: new Date(now + CA_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return store(path("ca.pem"), path("ca-key.pem"), made, keys.privateKey);
}

async function makeServer(
  path: (name: string) => string,
  ca: Pair,
  names: readonly string[],
  now: EpochMs,
): Promise<Pair> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const pkcs8 = x509.PemConverter.decodeFirst(ca.key);
  const signingKey = await crypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, false, ["sign"]);
  const issuer = new x509.X509Certificate(ca.cert);
  const made = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [{ CN: ["Barnraiser coordinator"] }],
    issuer: issuer.subject,
    notBefore: new Date(now - DAY_MS),
    notAfter: new Date(now + SERVER_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1"]),
      new x509.SubjectAlternativeNameExtension(names.map(generalName)),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return store(path("server.pem"), path("server-key.pem"), made, keys.privateKey);
}

function generalName(value: string): x509.JsonGeneralName {
  return { type: /^[\d.]+$|:/.test(value) ? "ip" : "dns", value };
}

function serial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0] ?? 0) & 0x7f; // a serial number must be positive
  return Buffer.from(bytes).toString("hex");
}

async function store(
  certFile: string,
  keyFile: string,
  made: x509.X509Certificate,
  privateKey: CryptoKey,
): Promise<Pair> {
  const cert = `${made.toString("pem")}\n`;
  const key = `${x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", privateKey), "PRIVATE KEY")}\n`;
  await replace(keyFile, key, 0o600);
  await replace(certFile, cert, 0o644);
  return { cert, key };
}

async function replace(file: string, content: string, mode: number): Promise<void> {
  await writeFile(`${file}.draft`, content, { mode });
  await chmod(`${file}.draft`, mode);
  await rename(`${file}.draft`, file);
}
