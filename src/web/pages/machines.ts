/** Data of `/machines` and `/machines/NAME`. */
import type { FarmConfig } from "../../config/effective.ts";
import { type EpochMs, machineId } from "../../farm/ids.ts";
import { isLent } from "../../farm/lending.ts";
import { hearsNames, looksAfter, type Visitor } from "../../gomote/access.ts";
import type { DrainedBy } from "../../store/drain.ts";
import type { CommandPlace } from "../../store/gomote-commands.ts";
import { machineRuns } from "../../store/pages-lines.ts";
import {
  countMachines,
  type MachineAttemptRow,
  type MachineDetail,
  machineAttempts,
  machineChanges,
  machineCompared,
  machineSessions,
  machineStrips,
  machinesNamed,
  machinesPage,
} from "../../store/pages-machines.ts";
import type { Sql } from "../../store/sql.ts";
import type { LentAs } from "../../ui/gomote.tsx";
import type { LentData, MachineData } from "../../ui/pages/machine.tsx";
import type { AttemptLine } from "../../ui/pages/machine-history.tsx";
import type { MachinesData } from "../../ui/pages/machines.tsx";
import { statusOf } from "../../ui/status.ts";
import { subject } from "../../ui/text.ts";
import { linesOf } from "../lines.ts";
import { modeOf } from "../machine-mode.ts";
import { nextOf } from "../queues.ts";
import { hostOf, lentData } from "./gomotes.ts";

const PAGE = 200;
const HOUR_MS = 3600_000;
const ATTEMPTS = 50;
const SESSIONS = 50;
const CHANGES = 100;

export function like(text: string): string {
  return text === "" ? "" : `%${text.replace(/[\\%_]/g, "\\$&")}%`;
}

export async function machinesData(
  sql: Sql,
  config: FarmConfig,
  filter: string,
  page: number,
  visitor: Visitor,
  now: EpochMs,
): Promise<MachinesData> {
  const [rows, total] = await Promise.all([
    machinesPage(sql, like(filter), PAGE, (page - 1) * PAGE),
    countMachines(sql, like(filter)),
  ]);
  const strips = await machineStrips(
    sql,
    rows.map((row) => row.id),
    now,
    24,
    HOUR_MS,
  );
  const days = new Map(strips.map((strip) => [strip.id, strip.strip]));
  return {
    machines: rows.map((row) => ({
      id: row.id,
      hostType: row.hostType,
      name: row.name,
      owner:
        row.owner ??
        (ownersOf(config, row.hostType)
          .map((o) => o.name)
          .join(", ") ||
          null),
      trust: row.trust,
      mode: modeOf({
        open: row.open,
        busy: row.held !== null,
        drained: row.drain !== null,
        setAside: row.setAside !== null,
      }),
      build: row.build,
      builder: row.builder,
      instance: lentAs(row.instance, visitor),
      lastSeenAt: row.lastSeenAt,
      note: row.drain
        ? drainNote(row.drain)
        : (row.setAside?.split("; the last: ", 1)[0] ?? (row.open ? null : row.closeReason)),
      day: days.get(row.id) ?? "",
    })),
    total,
    page,
    pages: Math.max(1, Math.ceil(total / PAGE)),
    filter,
  };
}

function lentAs(instance: string | null, visitor: Visitor): LentAs | null {
  return instance === null ? null : { name: hearsNames(visitor) ? instance : null };
}

/** Why a machine gets no work, in a list: names what is drained, unless it is the machine itself. */
function drainNote({ what, note }: DrainedBy): string {
  if (what === "machine") return note;
  return `with its ${what}${note === "" ? "" : `: ${note}`}`;
}

function attemptOf({ message, outcome, flaky, ...row }: MachineAttemptRow): AttemptLine {
  return { ...row, subject: subject(message), status: statusOf("ended", outcome, flaky) };
}

function ownersOf(
  config: FarmConfig,
  hostType: string,
): readonly { readonly name: string; readonly contact: string }[] {
  const owners = config.hosts.find((host) => host.hostType === hostType)?.owners ?? [];
  return owners.map(({ name, contact }) => ({ name, contact }));
}

/**
 * The owners by the configuration, which says how to reach them. If it no longer has the host type: the owner's name
 * from the machine's last connection.
 */
function lenders(config: FarmConfig, { hostType, owner }: MachineDetail): MachineData["owners"] {
  const named = ownersOf(config, hostType);
  return named.length > 0 || owner === null ? named : [{ name: owner, contact: "" }];
}

/** Which machine is shown, and from which place on the commands that people ran on it. */
export interface MachineAsked {
  readonly name: string;
  /** Tells machines of the same name apart. Undefined: the one that was seen last is meant. */
  readonly hostType: string | undefined;
  readonly after: CommandPlace | null;
}

export async function machineData(
  sql: Sql,
  config: FarmConfig,
  { name, hostType, after }: MachineAsked,
  visitor: Visitor,
  now: EpochMs,
): Promise<MachineData | undefined> {
  const all = await machinesNamed(sql, name);
  const machine = hostType === undefined ? all[0] : all.find((m) => m.hostType === hostType);
  if (!machine) return undefined;
  const [sessions, changes, compare, strips, rows, attempts] = await Promise.all([
    machineSessions(sql, machine.id, SESSIONS),
    machineChanges(sql, machine.id, CHANGES),
    machineCompared(sql, machine.id, machine.hostType),
    machineStrips(sql, [machine.id], now, 30, 24 * HOUR_MS),
    machineRuns(sql, machine.id),
    machineAttempts(sql, machine.id, ATTEMPTS),
  ]);
  const [running] = await linesOf(sql, rows, config);
  return {
    ...factsOf(machine),
    instance: lentAs(machine.instance, visitor),
    mode: modeOf({
      open: machine.open,
      busy: machine.held !== null,
      drained: machine.drain !== null,
      setAside: machine.setAsideAt !== null,
    }),
    owners: lenders(config, machine),
    running: running ?? null,
    changes,
    sessions,
    attempts: attempts.map(attemptOf),
    compare,
    next: machine.open ? await nextOf(sql, config, machineId(machine.id), now) : [],
    month: strips[0]?.strip ?? "",
    lent: await lentTo(sql, config, machine, visitor, after, now),
    namesakes: all.filter((m) => m.id !== machine.id).map((m) => m.hostType),
  };
}

/** Who borrowed a machine that is or was lent. For those who look after the machine. */
async function lentTo(
  sql: Sql,
  config: FarmConfig,
  { id, hostType }: MachineDetail,
  visitor: Visitor,
  after: CommandPlace | null,
  now: EpochMs,
): Promise<LentData | null> {
  const host = hostOf(config, hostType);
  if (!looksAfter(visitor, host)) return null;
  const lent = await lentData(sql, id, after, now);
  return lent.instances.length > 0 || (host && isLent(host)) ? lent : null;
}

function factsOf(
  machine: MachineDetail,
): Omit<
  MachineData,
  | "mode"
  | "owners"
  | "running"
  | "changes"
  | "sessions"
  | "attempts"
  | "compare"
  | "next"
  | "month"
  | "namesakes"
  | "lent"
  | "instance"
> {
  const {
    keyId,
    keyMadeAt,
    keyExpiresAt,
    keyRevokedAt,
    owner: _,
    open: __,
    held: ___,
    instance: ____,
    ...facts
  } = machine;
  return {
    ...facts,
    key:
      keyId === null ? null : { id: keyId, madeAt: keyMadeAt ?? 0, expiresAt: keyExpiresAt, revokedAt: keyRevokedAt },
  };
}
