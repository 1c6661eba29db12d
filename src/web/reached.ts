/**
 * Under which address whoever reads a page reaches the farm's TLS port, for the commands that the page prints: by the name that their browser used.
 *
 *   https://HOST[:PORT]      that very address: TLS ends here, so it leads to the port
 *   http://localhost:PORT    localhost with the TLS port; with a publicUrl, its host: a proxy on this computer asks in that way, too
 */
import type { WebDeps } from "./deps.ts";
import { type Ctx, isSecure } from "./http.ts";

/** As a URL has it. */
const THIS_COMPUTER = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** HOST:PORT */
export function reachedAt(c: Ctx, { config, dialAddress }: Pick<WebDeps, "config" | "dialAddress">): string {
  const asked = new URL(c.req.url);
  if (isSecure(c)) return `${asked.hostname}:${asked.port || 443}`;
  const { publicUrl } = config();
  const { hostname } = THIS_COMPUTER.test(asked.hostname) && publicUrl !== null ? new URL(publicUrl) : asked;
  return `${hostname}:${dialAddress().replace(/^.*:/, "")}`;
}

/** The host by which other computers reach it, as a URL has it; undefined: whoever reads is at this one, and there is no publicUrl. */
export function reachedFrom(c: Ctx, deps: Pick<WebDeps, "config" | "dialAddress">): string | undefined {
  const { hostname } = new URL(`https://${reachedAt(c, deps)}`);
  return THIS_COMPUTER.test(hostname) ? undefined : hostname;
}
