/**
 * How a machine introduces itself on /reverse, and how it is asked to dial once more on /revdial.
 *
 *   GET /reverse                     one of each header below; all are required except Barnraiser-Agent
 *   GET <connPath of conn-ready>     no header at all: the dialer id in the path is the credential
 *
 * `connPath` is opaque to the machine, which fetches it as it came; so we add which of the farm's coordinators asks and a number per
 * dial: whichever of them gets the connection knows whose it is, and an answer or a failure belongs to exactly one dial. A path
 * without these is what other coordinators send. A coordinator that passes a pick-up on says `Barnraiser-Forwarded: ITS-ID`.
 *
 * Our own agent adds `Barnraiser-Agent: digest=...; platform=...; instance=...; resume=1`. The coordinator then says `Barnraiser-Pong: 1` in the
 * head of its 101, and the agent answers every keep-alive with a pong line. To anybody else neither header is said.
 * Values are percent-encoded, so that they hold no separators; unknown names are skipped.
 */
export const REVERSE_PATH = "/reverse";
export const REVDIAL_PATH = "/revdial";
export const REVDIAL_VERSION = "2";
/** Machines that speak an older buildlet protocol cannot be driven. */
export const OLDEST_BUILDLET = 23;

export const REGISTRATION_HEADERS = {
  revdialVersion: "X-Revdial-Version",
  hostname: "X-Go-Builder-Hostname",
  hostType: "X-Go-Host-Type",
  key: "X-Go-Builder-Key",
  version: "X-Go-Builder-Version",
  agent: "Barnraiser-Agent",
} as const;

/** What a buildlet sends instead that a Swarming task began, in the order in which a lack of them is told. */
export const TASK_HEADERS = ["X-Go-Hostname", "X-Go-Gomote-ID", "X-Go-Swarming-Auth-Token"] as const;

/** In the 101 to our own agent: answer keep-alive lines with pong lines. */
export const PONG_HEADER = "Barnraiser-Pong";

/** In a pick-up that one coordinator passes on to another, once: who passed it on. */
export const FORWARDED_HEADER = "Barnraiser-Forwarded";

export interface AgentInfo {
  /** SHA-256 of the agent program that runs, lower-case hex; "" when it does not know. */
  readonly digest: string;
  /** For people: `linux/amd64 Debian 12, 4 cores, 8 GiB`. */
  readonly platform: string;
  /** Names the process, 32 random hex digits, kept over all its sessions; a secret between it and its farm. "" when it does not say. */
  readonly instance: string;
  /** Version of ../buildlet-api/execution.ts that it speaks; 0 for none. */
  readonly resume: number;
}

export function encodeAgentInfo({ digest, platform, instance, resume }: AgentInfo): string {
  const parts = { digest, platform, instance, resume };
  return Object.entries(parts)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join("; ");
}

/** Never throws: what a machine says of itself beyond the protocol is for display and for updates only. */
export function parseAgentInfo(value: string): AgentInfo {
  const found = new Map<string, string>();
  for (const part of value.split(";")) {
    const [name = "", ...rest] = part.trim().split("=");
    try {
      found.set(name, decodeURIComponent(rest.join("=")));
    } catch {
      // Not percent-encoded: as good as unsaid.
    }
  }
  const instance = found.get("instance") ?? "";
  const resume = found.get("resume") ?? "";
  return {
    digest: found.get("digest") ?? "",
    platform: found.get("platform") ?? "",
    instance: /^[0-9a-f]{32}$/.test(instance) ? instance : "",
    resume: /^\d{1,4}$/.test(resume) ? Number(resume) : 0,
  };
}

/** The path that a machine fetches to hand `coordinator` a connection: `dialer` is 32 hex digits, `dial` counts from 1. */
export function connPath(dialer: string, dial: number, coordinator: string): string {
  return `${REVDIAL_PATH}?revdial.dialer=${dialer}&barnraiser.coordinator=${coordinator}&barnraiser.dial=${dial}`;
}

export interface ConnPath {
  readonly dialer: string;
  /** Whose the dialer is; missing when the path is not one of ours. */
  readonly coordinator: string | undefined;
  /** Missing when the path is not one of ours. */
  readonly dial: number | undefined;
}

/** Reads a request target of /revdial; undefined when there is no well-formed dialer id in it. */
export function parseConnPath(target: string): ConnPath | undefined {
  const [path, query = ""] = target.split("?", 2);
  if (path !== REVDIAL_PATH) return undefined;
  const params = new URLSearchParams(query);
  const dialer = params.get("revdial.dialer") ?? "";
  if (!/^[0-9a-f]{32}$/.test(dialer)) return undefined;
  const dial = params.get("barnraiser.dial") ?? "";
  const coordinator = params.get("barnraiser.coordinator") ?? "";
  return {
    dialer,
    coordinator: /^P[0-9a-f]{9}$/.test(coordinator) ? coordinator : undefined,
    dial: /^[1-9]\d{0,14}$/.test(dial) ? Number(dial) : undefined,
  };
}
