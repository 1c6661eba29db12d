/**
 * The secrets that all coordinators of a farm must have alike. The coordinator that starts first makes those that are
 * missing.
 */
import { mkdir, readFile } from "node:fs/promises";
import type { EpochMs } from "../farm/ids.ts";
import { exclusively, SECRETS_LOCK } from "../store/exclusively.ts";
import type { Sql } from "../store/sql.ts";
import { type Certificate, type CertificateOptions, certificate } from "../web/certificate.ts";
import { masterKey } from "./builder-keys.ts";
import { operatorToken } from "./operator-token.ts";
import { fingerprint } from "./shared.ts";

export interface Secrets {
  readonly master: string;
  readonly token: string;
  readonly tls: Certificate;
  /** Fingerprints of the secrets by their names in shared.ts, for the others to compare. */
  readonly fingerprints: Readonly<Record<string, string>>;
}

/** The secrets of `folder`. Throws a FarmError that says which file cannot be used. */
export async function openSecrets(
  sql: Sql,
  folder: string,
  masterKeyFile: string,
  tlsFiles: Omit<CertificateOptions, "now">,
  now: EpochMs,
): Promise<Secrets> {
  const { master, token, tls } = await exclusively(sql, SECRETS_LOCK, async () => {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return {
      master: await masterKey(folder, masterKeyFile, true),
      token: await operatorToken(folder),
      tls: await certificate({ ...tlsFiles, now }),
    };
  });
  // A certificate of a public authority may differ from one coordinator to the next.
  const own = !tlsFiles.certFile;
  const fingerprints = {
    "master key": fingerprint("master key", master),
    "operator token": fingerprint("operator token", token),
    ...(own && { "CA certificate": fingerprint("CA certificate", await readFile(tls.caFile, "utf8")) }),
  };
  return { master, token, tls, fingerprints };
}
