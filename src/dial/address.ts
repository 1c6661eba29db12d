/**
 * Addresses `HOST:PORT` of a coordinator, and which of them are this machine itself.
 *
 * Loopback matters twice: a coordinator that is being tried is there, so the public development key is shown to it and, with
 * that key, any certificate taken; and no proxy is asked for it.
 */
import { isIP } from "node:net";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The public coordinator may be named without a port. */
const PORTLESS = "farmer.golang.org";

/** Reads `HOST:PORT`, `[IPv6]:PORT`. Throws with a sentence for the owner. */
export function parseAddress(given: string): Address {
  if (given === PORTLESS) return { host: PORTLESS, port: 443 };
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(given) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) < 1 || Number(port) > 65535) {
    throw new Error(`Cannot use coordinator address ${JSON.stringify(given)}: want HOST:PORT`);
  }
  return { host, port: Number(port) };
}

export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith("127.");
  if (isIP(host) === 6) return host === "::1" || /^::ffff:127\./i.test(host);
  const name = host.toLowerCase().replace(/\.$/, "");
  return name === "localhost" || name.endsWith(".localhost");
}
