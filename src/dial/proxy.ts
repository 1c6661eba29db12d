/**
 * Which proxy the environment names for an address, by the rules of HTTPS_PROXY, HTTP_PROXY and NO_PROXY (either case).
 *
 * NO_PROXY is a list with commas: `*` is everything; an address or CIDR block; `example.org` is that name and all below
 * it; `.example.org` and `*.example.org` are only those below; each may end in `:PORT`. Loopback is never proxied.
 */
import { BlockList, isIP } from "node:net";
import { type Address, isLoopback } from "./address.ts";

export type Environment = { readonly [name: string]: string | undefined };

export interface Proxy {
  readonly host: string;
  readonly port: number;
  /** `user:password`, "" without. */
  readonly credentials: string;
}

export function proxyFor(scheme: "http" | "https", target: Address, env: Environment): Proxy | undefined {
  const name = scheme === "https" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const given = env[name] || env[name.toLowerCase()] || "";
  if (given === "" || isLoopback(target.host)) return undefined;
  if (isExempt(target, env.NO_PROXY || env.no_proxy || "")) return undefined;
  let url: URL;
  try {
    url = new URL(given.includes("://") ? given : `http://${given}`);
  } catch {
    throw new Error(`Cannot use the proxy in ${name}: want http://HOST:PORT`); // it may hold a password: not quoted
  }
  const credentials =
    url.username === "" ? "" : `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) || 80, credentials };
}

function isExempt(target: Address, list: string): boolean {
  const host = target.host.toLowerCase();
  return list.split(",").some((given) => {
    const entry = given.trim().toLowerCase();
    if (entry === "") return false;
    if (entry === "*") return true;
    if (isIP(host) !== 0 && entry.includes("/")) return isInBlock(host, entry);
    const [, name = "", port] = /^(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::(\d+))?$/.exec(entry) ?? [];
    if (port !== undefined && Number(port) !== target.port) return false;
    const bare = name.replace(/^\[|\]$/g, "");
    if (bare.startsWith("*.")) return host.endsWith(bare.slice(1));
    if (bare.startsWith(".")) return host.endsWith(bare);
    return host === bare || host.endsWith(`.${bare}`);
  });
}

function isInBlock(address: string, block: string): boolean {
  const [network = "", bits = ""] = block.split("/");
  const family = isIP(network);
  if (family === 0 || family !== isIP(address) || !/^\d+$/.test(bits)) return false;
  const list = new BlockList();
  try {
    list.addSubnet(network, Number(bits), family === 4 ? "ipv4" : "ipv6");
  } catch {
    return false;
  }
  return list.check(address, family === 4 ? "ipv4" : "ipv6");
}
