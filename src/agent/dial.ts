/** Opens TLS connections of machines to the coordinator (../dial/dial.ts), without ALPN, and decides whom to trust. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext, type TLSSocket } from "node:tls";
import { type Address, isLoopback } from "../dial/address.ts";
import { certificateTrouble, dialTcp, startTls } from "../dial/dial.ts";
import type { Environment } from "../dial/proxy.ts";
import { messageOf } from "../farm/errors.ts";

export interface TlsTrust {
  /**
   * Whether certificates are checked. They are not towards this machine while only the development key is shown, and
   * where the original's rule says so.
   */
  readonly verify: boolean;
  /** PEM of the certificates to trust instead of the built-in ones. */
  readonly ca: string | undefined;
  /** `-ca-file`, for messages about certificates; undefined where that flag does not count. */
  readonly caFile?: string;
  /** The server name to send and to verify, when it is not the host of the address. */
  readonly serverName?: string;
}

/**
 * Whom to trust: the CA file if one is named, else the usual authorities. A machine that shows only the development
 * key, which is no secret, trusts any program on itself: a coordinator that somebody tries has no real certificate.
 */
export function trustFor(address: Address, caFile: string, devKey: boolean): TlsTrust {
  if (caFile === "") return { verify: !(devKey && isLoopback(address.host)), ca: undefined, caFile };
  let ca: string;
  try {
    ca = readFileSync(caFile, "utf8");
  } catch (error) {
    throw new Error(`Cannot read -ca-file ${JSON.stringify(caFile)}: ${messageOf(error)}`, { cause: error });
  }
  if (!ca.includes("-----BEGIN CERTIFICATE-----")) {
    throw new Error(`Cannot use -ca-file ${JSON.stringify(caFile)}: want certificates in PEM form`);
  }
  return { verify: true, ca, caFile };
}

/** `error`; when it is about a certificate, with the flag that would help. */
export function explainCertificate(error: unknown, { caFile }: TlsTrust): unknown {
  const code = certificateTrouble(error);
  if (caFile === undefined || code === undefined) return error;
  let advice = "give the farm's CA certificate with -ca-file";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") advice = "give -coordinator a name that the certificate is for";
  else if (caFile !== "") advice = `no certificate in -ca-file ${JSON.stringify(caFile)} vouches for it`;
  return new Error(`Cannot trust the coordinator's certificate: ${messageOf(error)}; ${advice}`, { cause: error });
}

export type Dial = (signal: AbortSignal) => Promise<TLSSocket>;

/** A function that dials `address`. What all connections share is made once. */
export function dialer(address: Address, trust: TlsTrust, env: Environment): Dial {
  const host = trust.serverName ?? address.host;
  const options: ConnectionOptions = {
    rejectUnauthorized: trust.verify,
    // The built-in list of authorities takes megabytes, so it is loaded only where it is used.
    ...(trust.verify && trust.ca === undefined
      ? {}
      : { secureContext: createSecureContext(trust.ca === undefined ? { ca: [] } : { ca: trust.ca }) }),
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
  };
  return async (signal) => {
    const tcp = await dialTcp(address, env, signal);
    try {
      return await startTls(tcp, options, signal);
    } catch (error) {
      throw explainCertificate(error, trust);
    }
  };
}
