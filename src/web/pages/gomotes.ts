/** Data of `/gomotes` and `/gomotes/NAME`, and what a machine's page says of its borrowers. */
import type { FarmConfig, HostConfig } from "../../config/effective.ts";
import { type EpochMs, machineId } from "../../farm/ids.ts";
import { isLent, mayNotBorrow } from "../../farm/lending.ts";
import { isOperator, looksAfter, type Rights, rightsOn, type Visitor } from "../../gomote/access.ts";
import { typesFor } from "../../gomote/instance-types.ts";
import { type Instance, liveInstances } from "../../store/gomote.ts";
import { type CommandPlace, commandsOf, wholeCommand } from "../../store/gomote-commands.ts";
import {
  type InstanceRow,
  instanceNumbered,
  instancesOfMachine,
  lastNamed,
  runningOnInstances,
} from "../../store/pages-gomote.ts";
import { connected } from "../../store/pages-pools.ts";
import { queueLines } from "../../store/queue-line.ts";
import type { Sql } from "../../store/sql.ts";
import { type CommandPage, type InstanceLine, type InstanceState, instanceHref } from "../../ui/gomote.tsx";
import type { GomoteData } from "../../ui/pages/gomote.tsx";
import type { GomoteCommandData } from "../../ui/pages/gomote-command.tsx";
import type { GomotesData, TypeLine } from "../../ui/pages/gomotes.tsx";
import type { LentData } from "../../ui/pages/machine.tsx";

/** How many places of a waiting line are read to find somebody's place. */
const COUNTED = 2000;
const COMMANDS = 200;
const OF_MACHINE = 50;

export function hostOf(config: Pick<FarmConfig, "hosts">, hostType: string): HostConfig | undefined {
  return config.hosts.find((host) => host.hostType === hostType);
}

export async function gomotesData(sql: Sql, config: FarmConfig, who: Visitor, now: EpochMs): Promise<GomotesData> {
  const { idleMs, longestMs } = config.gomote;
  const limits = { idleMs, longestMs };
  if (who.kind === "nobody") return { who: null, mine: [], others: null, types: [], ...limits };
  const person = who.kind === "person" ? who.person : null;
  const of = sightOf(config, who);
  const live = await liveInstances(sql, of === null ? (person?.id ?? null) : null);
  const [mine, rest] = [
    live.filter(({ owner }) => owner === person?.id),
    live.filter((one) => one.owner !== person?.id && rightsOn(who, one, hostOf(config, one.hostType))),
  ];
  const [own, others] = await Promise.all([liveLines(sql, mine, now), liveLines(sql, rest, now)]);
  return {
    who: { kind: who.kind },
    mine: own,
    others: of && { of, lines: others },
    types: person ? await typeLines(sql, config, person) : [],
    ...limits,
  };
}

/** Living instances, as lines of a table. */
export function liveLines(sql: Sql, live: readonly Instance[], now: EpochMs): Promise<InstanceLine[]> {
  return instanceLines(
    sql,
    live.map((instance) => ({ ...instance, endedAt: null })),
    now,
  );
}

/** Whose instances `who` sees beside their own. */
function sightOf({ hosts }: Pick<FarmConfig, "hosts">, who: Visitor): "everybody" | "my machines" | null {
  if (isOperator(who)) return "everybody";
  return hosts.some((host) => isLent(host) && looksAfter(who, host)) ? "my machines" : null;
}

/**
 * Whether pages lead `who` to `/gomotes`. They lead operators and all who may borrow or lend something. Where machines
 * are lent, they also lead everybody who could become a user by logging in at the farm's provider. Others would find
 * nothing there that they may use.
 */
export function leadsToGomotes({ hosts, login }: Pick<FarmConfig, "hosts" | "login">, who: Visitor): boolean {
  if (who.kind === "nobody") return login !== null && hosts.some(isLent);
  if (sightOf({ hosts }, who) !== null) return true;
  return who.kind === "person" && hosts.some((host) => mayNotBorrow(who.person, host) === undefined);
}

/**
 * The instance that an address names: by its number, or by its name. An ended instance is found by name while no other
 * has that name.
 */
export function instanceAt(sql: Sql, text: string): Promise<InstanceRow | undefined> {
  return /^[1-9]\d{0,14}$/.test(text) ? instanceNumbered(sql, Number(text)) : lastNamed(sql, text);
}

export async function gomoteData(
  sql: Sql,
  instance: InstanceRow,
  rights: Rights,
  server: string,
  after: CommandPlace | null,
  now: EpochMs,
): Promise<GomoteData> {
  const [lines, commands] = await Promise.all([
    instanceLines(sql, [instance], now),
    commandPage(sql, { instance: instance.id }, after),
  ]);
  const [line = lineOf(instance)] = lines;
  const { workingDir, agent } = instance;
  return { line, workingDir, hasShell: agent === "barnraiser", ...rights, commands, server };
}

/** A command of an instance, with all its words. Undefined: no command has this number. */
export async function commandData(
  sql: Sql,
  instance: InstanceRow,
  number: number,
): Promise<GomoteCommandData | undefined> {
  const ran = await wholeCommand(sql, instance.id, number);
  if (!ran) return undefined;
  const { words, cutFrom, ...line } = ran;
  return { line, words, cutFrom, href: instanceHref(lineOf(instance)) };
}

/** Who borrowed a machine, and what they ran there. For those who look after the machine. */
export async function lentData(sql: Sql, machine: number, after: CommandPlace | null, now: EpochMs): Promise<LentData> {
  const id = machineId(machine);
  const [rows, commands] = await Promise.all([
    instancesOfMachine(sql, id, OF_MACHINE),
    commandPage(sql, { machine: id }, after),
  ]);
  return { instances: await instanceLines(sql, rows, now), commands };
}

/**
 * Where a page of commands begins: after the running command of `running-NUMBER`, or after the ended one of `NUMBER`.
 * Null: at the beginning.
 */
export function placeAt(text: string | undefined): CommandPlace | null {
  const [, running, id] = /^(running-)?([1-9]\d{0,14})$/.exec(text ?? "") ?? [];
  return id === undefined ? null : { running: running !== undefined, id: Number(id) };
}

async function commandPage(
  sql: Sql,
  of: Parameters<typeof commandsOf>[1],
  after: CommandPlace | null,
): Promise<CommandPage> {
  const lines = await commandsOf(sql, of, after, COMMANDS + 1);
  const last = lines.length > COMMANDS ? lines[COMMANDS - 1] : undefined;
  const next = last && (last.endedAt === null ? `running-${last.id}` : String(last.id));
  return { lines: lines.slice(0, COMMANDS), isFirst: after === null, next: next ?? null };
}

async function instanceLines(sql: Sql, rows: readonly InstanceRow[], now: EpochMs): Promise<InstanceLine[]> {
  const waiting = rows.filter((row) => stateOf(row) === "waiting");
  const queues = [...new Set(waiting.map(({ hostType }) => hostType))];
  const [lines, running] = await Promise.all([
    queues.length === 0 ? null : queueLines(sql, queues, now, COUNTED),
    runningOnInstances(
      sql,
      rows.filter(({ state }) => state === "held").map(({ id }) => id),
    ),
  ]);
  const places = new Map<number, number>();
  for (const line of lines?.values() ?? []) for (const [at, { id }] of line.entries()) places.set(id, at);
  const runs = new Map(running.map(({ instance, command, count }) => [instance, { command, more: count - 1 }]));
  return rows.map((row) => ({
    ...lineOf(row),
    ahead: row.state === "wanted" ? (places.get(row.lease) ?? null) : null,
    running: runs.get(row.id) ?? null,
  }));
}

function lineOf(row: InstanceRow): InstanceLine {
  const { id, name, email, builderType, hostType, machine, createdAt, upAt, expiresAt, limitAt, endedAt } = row;
  return {
    ...{ id, name, email, builderType, hostType, createdAt, upAt, expiresAt, limitAt, endedAt },
    machine: machine === null ? null : { name: machine, hostType },
    state: stateOf(row),
    endReason: row.endReason,
    ahead: null,
    running: null,
  };
}

function stateOf({ state, upAt, parked }: Instance): InstanceState {
  if (state === "ended") return "ended";
  if (upAt === null) return "waiting";
  return parked ? "away" : "up";
}

async function typeLines(sql: Sql, config: FarmConfig, person: Parameters<typeof typesFor>[1]): Promise<TypeLine[]> {
  const sessions = Map.groupBy(await connected(sql), ({ hostType }) => hostType);
  return typesFor(config, person).map(({ name, host }) => {
    const there = (sessions.get(host.hostType) ?? []).filter(({ drained, setAside }) => !drained && !setAside);
    return {
      name,
      hostType: host.hostType,
      machines: there.length,
      idle: there.filter(({ heldAt }) => heldAt === null).length,
    };
  });
}
