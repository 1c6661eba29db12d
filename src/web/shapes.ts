/** The JSON and text that upstream serves, in the same shape, for scripts that people already have. */

import type { ConnectedRow, HostTypeRow } from "../store/pages-pools.ts";
import type { Check, Level } from "../ui/data.ts";
import type { CheckLine, CheckResult } from "./deps.ts";

const LEVELS: readonly Level[] = ["ok", "info", "warn", "error"];

export function worst(levels: readonly Level[]): Level {
  return LEVELS[Math.max(0, ...levels.map((level) => LEVELS.indexOf(level)))] ?? "ok";
}

export function checkOf(result: CheckResult): Check {
  return { ...result, level: worst(result.lines.map((line) => line.level)) };
}

const WORDS: Readonly<Record<CheckLine["level"], string>> = { info: "Info", warn: "Warn", error: "Error" };

/**
 * The text of `/status/ID`: `ok`, or the checker's title and one line `Level: text` for each finding. The status is 500
 * when any is an error.
 */
export function checkText(check: CheckResult): { status: 200 | 500; body: string } {
  if (check.lines.length === 0) return { status: 200, body: "ok\n" };
  const head = [`# ${check.id}: ${check.title}`, ...(check.notes ? [`# ${check.notes}`] : [])];
  const lines = check.lines.map((line) => `${WORDS[line.level]}: ${line.text.replace(/[\r\n]+/g, " ")}`);
  return {
    status: check.lines.some((line) => line.level === "error") ? 500 : 200,
    body: `${[...head, ...lines].join("\n")}\n`,
  };
}

export interface ActiveBuild {
  readonly id: number;
  readonly builder: string;
  readonly hash: string;
  readonly otherHash: string | null;
}

/**
 * The data of `/status/post-submit-active.json`. `commit` is the commit that is built, `goCommit` the other commit of a
 * pair.
 */
export function activeJson(builds: readonly ActiveBuild[], origin: string): unknown {
  if (builds.length === 0) return null;
  return builds.map(({ id, builder, hash, otherHash }) => ({
    builder,
    commit: hash,
    ...(otherHash !== null && { goCommit: otherHash }),
    statusURL: `${origin}/b/${id}`,
  }));
}

/** The data of `/status/reverse.json`. Machines of the same name overwrite each other, as they do upstream. */
export function reverseJson(
  types: readonly HostTypeRow[],
  sessions: readonly ConnectedRow[],
  waiting: readonly { queue: string; waiting: number }[],
  now: number,
): unknown {
  const seconds = (since: number): number => Math.max(0, (now - since) / 1000);
  const of = (type: HostTypeRow): unknown => {
    const mine = sessions.filter((s) => s.hostType === type.name);
    const busy = mine.filter((s) => s.heldAt !== null).length;
    return {
      HostType: type.name,
      Connected: mine.length,
      Expect: type.expect,
      Idle: mine.length - busy,
      Busy: busy,
      Waiters: waiting.find((w) => w.queue === type.name)?.waiting ?? 0,
      Machines: Object.fromEntries(
        mine.map((s) => [
          s.name,
          {
            Name: s.name,
            HostType: s.hostType,
            ConnectedSec: seconds(s.openedAt),
            ...(s.heldAt === null ? { IdleSec: seconds(s.freedAt ?? s.openedAt) } : { BusySec: seconds(s.heldAt) }),
            Version: String(s.version),
            Busy: s.heldAt !== null,
          },
        ]),
      ),
    };
  };
  return {
    HostTypes: Object.fromEntries(
      types.filter((t) => t.configured || sessions.some((s) => s.hostType === t.name)).map((t) => [t.name, of(t)]),
    ),
  };
}
