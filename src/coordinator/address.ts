/** Addresses as flags give them, and as others dial them. */
import { hostname, networkInterfaces } from "node:os";

export interface Address {
  /** The host to listen on; "": every interface. */
  readonly host: string;
  readonly port: number;
}

/** Reads `HOST:PORT`, `:PORT` or `[::1]:PORT`. Undefined: it is none of these. */
export function parseAddress(given: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(given);
  const port = Number(match?.[3]);
  return match && port <= 65_535 ? { host: match[1] ?? match[2] ?? "", port } : undefined;
}

/** Whether `host` is only reachable from this computer. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** HOST:PORT as a URL has it. */
export function addressText({ host, port }: Address): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The address of a gateway, for people. Without a host it is at the coordinator that they know. */
export function sshAddress(listen: Address | undefined, port: number): string {
  const { host } = listen ?? { host: "" };
  return addressText({ host: ["0.0.0.0", "::"].includes(host) ? "" : host, port });
}

/**
 * The address at which other coordinators reach a TLS port, when no flag says it. For a port on every interface, it is
 * an address of this computer that others can reach.
 */
export function peerAddress({ host }: Address, port: number): string {
  if (host !== "" && host !== "0.0.0.0" && host !== "::") return addressText({ host, port });
  const outside = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  return addressText({ host: outside?.address ?? hostname(), port });
}
