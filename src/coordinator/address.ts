/** Addresses as flags give them, and as others dial them. */
import { hostname, networkInterfaces } from "node:os";

export interface Address {
  /** "" listens on every interface. */
  readonly host: string;
  readonly port: number;
}

/** Reads `HOST:PORT`, `:PORT`, `[::1]:PORT`. Undefined when it is none of these. */
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

/** How people are told where a gateway is: without a host, at the coordinator that they know. */
export function sshAddress(listen: Address | undefined, port: number): string {
  const { host } = listen ?? { host: "" };
  return addressText({ host: ["0.0.0.0", "::"].includes(host) ? "" : host, port });
}

/** Where the other coordinators of the farm reach a TLS port, when nobody says it: on every interface, then by one that others have. */
export function peerAddress({ host }: Address, port: number): string {
  if (host !== "" && host !== "0.0.0.0" && host !== "::") return addressText({ host, port });
  const outside = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  return addressText({ host: outside?.address ?? hostname(), port });
}
