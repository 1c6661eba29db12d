/**
 * Under which address whoever reads a page reaches the farm's TLS port, for the commands that the page prints: by the name that their browser used.
 *
 *   https://HOST[:PORT]      that very address: TLS ends here, so it leads to the port
 *   http://localhost:PORT    the host of publicUrl with the TLS port, since a proxy on this computer asks in that way,
 *                            too. Without a publicUrl, the one host at which the TLS port listens, or else localhost
 */
import type { WebDeps } from "./deps.ts";
import { type Ctx, isSecure } from "./http.ts";

/** Hosts as a URL has them. */
const EVERY_INTERFACE = /^(?:0\.0\.0\.0|\[::\])$/;
const THIS_COMPUTER = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** HOST:PORT */
export function reachedAt(c: Ctx, { config, dialAddress }: Pick<WebDeps, "config" | "dialAddress">): string {
  const asked = new URL(c.req.url);
  if (isSecure(c)) return `${asked.hostname}:${asked.port || 443}`;
  const host = THIS_COMPUTER.test(asked.hostname) ? outsideHost(config().publicUrl, dialAddress()) : undefined;
  return `${host ?? asked.hostname}:${dialAddress().replace(/^.*:/, "")}`;
}

/** The host that other computers use, when a browser on this computer asks. Undefined: there may be none. */
function outsideHost(publicUrl: string | null, dialAddress: string): string | undefined {
  if (publicUrl !== null) return new URL(publicUrl).hostname;
  const { hostname } = new URL(`https://${dialAddress}`);
  return EVERY_INTERFACE.test(hostname) || THIS_COMPUTER.test(hostname) ? undefined : hostname;
}

/** The host by which other computers reach it, as a URL has it; undefined: whoever reads is at this one, and there is no publicUrl. */
export function reachedFrom(c: Ctx, deps: Pick<WebDeps, "config" | "dialAddress">): string | undefined {
  const { hostname } = new URL(`https://${reachedAt(c, deps)}`);
  return THIS_COMPUTER.test(hostname) ? undefined : hostname;
}
