/** The operator's actions, for pages and command line alike: done, written into the audit, and told to the farm. */
import type { Builds } from "../builds/builds.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { machineId } from "../farm/ids.ts";
import { newAct, recordAudit } from "../store/audit.ts";
import { type DrainTarget, drain, resume } from "../store/drain.ts";
import { revokeMachineKey } from "../store/keys.ts";
import { readmitMachine } from "../store/set-aside.ts";
import type { Sql } from "../store/sql.ts";
import type { Actions } from "../web/deps.ts";

export interface ActionsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly builds: Builds;
}

export function actions({ sql, bus, clock, builds }: ActionsDeps): Actions {
  /** Does `work` and records it, in one transaction. `undefined` and `false` mean that its object does not exist. */
  async function recorded<T>(
    entry: { who: string; action: string; subject: string; detail?: string },
    work: (tx: Sql) => Promise<T>,
  ): Promise<T & {}> {
    const act = newAct(clock.now());
    return sql.tx(async (tx) => {
      const done = await work(tx);
      if (done === undefined || done === null || done === false) {
        throw new FarmError(
          "not-found",
          `Cannot ${entry.action} ${entry.subject.replace(":", " ")}: there is none such`,
        );
      }
      await recordAudit(tx, { ...act, detail: null, ...entry });
      return done;
    });
  }
  /** Tells the machines and coordinators that a drain concerns, and the pages that show it. */
  function tell(target: DrainTarget, hostType: string | undefined): void {
    const whole = target.kind === "farm" || target.kind === "coordinator";
    if (whole) bus.publish("drain:");
    bus.publish(target.kind === "machine" ? `machine:${target.id}` : "farm:");
    bus.publish(whole ? "queue:" : `queue:${hostType}`);
  }
  /** Drains a target, or resumes it when `note` is null. */
  async function turn(target: DrainTarget, note: string | null, who: string): Promise<void> {
    const action = note === null ? "resume" : "drain";
    const entry = { who, action, subject: subjectOf(target), ...(note !== null && { detail: note }) };
    const turned = await recorded(entry, (tx) =>
      note === null ? resume(tx, target) : drain(tx, target, note, clock.now()),
    );
    tell(target, turned.hostType);
  }
  return {
    rebuild: (build, who) => builds.rebuild(build, who),
    async cancel(build, who) {
      if (await builds.cancel(build, who)) return;
      throw new FarmError("conflict", `Cannot cancel build ${build}: it has ended already`);
    },
    async readmitMachine(id, who) {
      const entry = { who, action: "readmit", subject: `machine:${id}` };
      const { hostType } = await recorded(entry, (tx) => readmitMachine(tx, machineId(id), clock.now()));
      tell({ kind: "machine", id }, hostType);
    },
    drain: (target, note, who) => turn(target, note, who),
    resume: (target, who) => turn(target, null, who),
    async revokeKey(key, who) {
      await recorded({ who, action: "revoke", subject: `key:${key}` }, (tx) => revokeMachineKey(tx, key, clock.now()));
      bus.publish(`key:${key}`);
    },
  };
}

/** The target as `noun:id`, as in topics. */
function subjectOf(target: DrainTarget): string {
  switch (target.kind) {
    case "farm":
      return "farm:";
    case "coordinator":
      return `coordinator:${target.id}`;
    case "hostType":
      return `host type:${target.name}`;
    case "machine":
      return `machine:${target.id}`;
  }
}
