/**
 * What is wrong with the farm's machines, for the status page and the person on call. Pure: facts in, lines out.
 *
 * A machine is missing when fewer are connected than its host type should have (store/troubles.ts). During the first
 * GRACE after a start machines are still coming back, so that is worth a note only; afterwards it is a warning, and an
 * error once MANY_MISSING of all that are expected are missing. One name connected twice is an error, since neither of
 * the two is what it claims to be.
 */
import { type EpochMs, type Ms, minutes } from "../farm/ids.ts";
import type { Expected } from "../store/troubles.ts";

/** How long machines may take to come back after the coordinator started. */
export const GRACE: Ms = minutes(2);
/** The part of the expected machines from which their absence is an error. */
const MANY_MISSING = 0.15;

export interface MachineFacts {
  readonly hosts: readonly Expected[];
  readonly twice: readonly Sessions[];
  readonly flapping: readonly Sessions[];
  readonly startedAt: EpochMs;
  readonly now: EpochMs;
}

/** How many sessions a machine has, or had. */
export interface Sessions {
  readonly hostType: string;
  readonly name: string;
  readonly sessions: number;
}

export interface Check {
  readonly id: string;
  readonly title: string;
  readonly lines: readonly { readonly level: "info" | "warn" | "error"; readonly text: string }[];
}

export function machineChecks(facts: MachineFacts): readonly Check[] {
  return [missing(facts), twice(facts), flapping(facts)];
}

function missing({ hosts, startedAt, now }: MachineFacts): Check {
  const expected = hosts.reduce((sum, host) => sum + host.expect, 0);
  const short = hosts.filter((host) => host.connected < host.expect);
  const absent = short.reduce((sum, host) => sum + host.expect - host.connected, 0);
  const level = now - startedAt < GRACE ? "info" : absent >= expected * MANY_MISSING ? "error" : "warn";
  const lines = short.map(({ hostType, expect, connected, away }) => {
    const names = away.map(({ name, since }) => `${name} (last seen ${utc(since)})`);
    const who = names.length > 0 ? `: ${names.join(", ")}` : "";
    const text = `${hostType}: ${connected} of ${expect} connected, ${expect - connected} missing${who}`;
    return { level, text } as const;
  });
  return { id: "machines", title: "Expected machines", lines };
}

function twice(facts: MachineFacts): Check {
  const lines = facts.twice.map(({ hostType, name, sessions }) => ({
    level: "error" as const,
    text: `${hostType}: ${name} is connected ${sessions} times; give each machine a name of its own (-hostname)`,
  }));
  return { id: "duplicates", title: "Names of machines", lines };
}

function flapping(facts: MachineFacts): Check {
  const lines = facts.flapping.map(({ hostType, name, sessions }) => ({
    level: "warn" as const,
    text: `${hostType}: ${name} connected ${sessions} times within 10 minutes; its log says why it ends`,
  }));
  return { id: "flapping", title: "Steady connections", lines };
}

function utc(at: EpochMs): string {
  return new Date(at)
    .toISOString()
    .replace(/:\d\d\.\d+Z$/, " UTC")
    .replace("T", " ");
}
