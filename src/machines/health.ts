/**
 * What is wrong with the farm's machines, for the status page and whoever is on call. Pure: facts in, lines out.
 *
 * A machine is missing when its host type expects more than are connected; nobody is expected of a host type that is drained, nor a
 * machine that is drained and away. During the first GRACE after a start machines are still
 * coming back, so that is worth a note only; afterwards it is a warning, and an error once MANY_MISSING of all that are
 * expected are missing. One name connected twice is an error, since neither of the two is what it claims to be.
 */
import { type EpochMs, type Ms, minutes } from "../farm/ids.ts";
import type { HostTypeHealth } from "../store/machines.ts";

/** After the coordinator started. */
export const GRACE: Ms = minutes(2);
/** Part of the expected machines whose absence is an error. */
export const MANY_MISSING = 0.15;

export interface MachineFacts {
  readonly hosts: readonly HostTypeHealth[];
  readonly flapping: readonly { readonly hostType: string; readonly name: string; readonly sessions: number }[];
  readonly startedAt: EpochMs;
  readonly now: EpochMs;
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
  const wanted = hosts.map((host) => ({ ...host, expect: expectedOf(host) }));
  const expected = wanted.reduce((sum, host) => sum + host.expect, 0);
  const short = wanted.flatMap((host) => {
    const here = host.machines.filter((machine) => machine.open > 0).length;
    return here < host.expect ? [{ host, here }] : [];
  });
  const absent = short.reduce((sum, { host, here }) => sum + host.expect - here, 0);
  const level = now - startedAt < GRACE ? "info" : absent >= expected * MANY_MISSING ? "error" : "warn";
  const lines = short.map(({ host, here }) => {
    const away = host.machines
      .filter((machine) => machine.open === 0 && !machine.drained)
      .map((machine) => `${machine.name} (last seen ${utc(machine.lastSeenAt)})`);
    const who = away.length > 0 ? `: ${away.join(", ")}` : "";
    return {
      level,
      text: `${host.hostType}: ${here} of ${host.expect} connected, ${host.expect - here} missing${who}`,
    } as const;
  });
  return { id: "machines", title: "Expected machines", lines };
}

function expectedOf({ drained, expect, machines }: HostTypeHealth): number {
  return drained ? 0 : expect - machines.filter((machine) => machine.drained && machine.open === 0).length;
}

function twice({ hosts }: MachineFacts): Check {
  const lines = hosts.flatMap((host) =>
    host.machines
      .filter((machine) => machine.open > 1)
      .map((machine) => ({
        level: "error" as const,
        text: `${host.hostType}: ${machine.name} is connected ${machine.open} times; give each machine a name of its own (-hostname)`,
      })),
  );
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
