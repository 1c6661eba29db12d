/** What the operator may do, from pages and command line alike: done, written into the audit, and told to the farm. */
import type { Builds } from "../builds/builds.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { type CoordinatorId, machineId } from "../farm/ids.ts";
import { recordAudit } from "../store/audit.ts";
import { drainCoordinator, drainFarm, resumeCoordinator, resumeFarm } from "../store/drain.ts";
import { revokeMachineKey } from "../store/keys.ts";
import { drainHostType, drainMachine, resumeHostType, resumeMachine } from "../store/machines.ts";
import { readmitMachine } from "../store/set-aside.ts";
import type { Sql } from "../store/sql.ts";
import type { Actions } from "../web/deps.ts";

export interface ActionsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly builds: Builds;
  readonly coordinator: CoordinatorId;
}

export function actions({ sql, bus, clock, builds, coordinator }: ActionsDeps): Actions {
  /** Does `work` and records it in one transaction; `undefined` and `false` mean that there is no such thing. */
  async function recorded<T>(
    entry: { who: string; action: string; subject: string; detail?: string },
    work: (tx: Sql) => Promise<T>,
  ): Promise<T & {}> {
    const result = await sql.tx(async (tx) => {
      const done = await work(tx);
      if (done === undefined || done === null || done === false) {
        throw new FarmError(
          "not-found",
          `Cannot ${entry.action} ${entry.subject.replace(":", " ")}: there is none such`,
        );
      }
      await recordAudit(tx, { at: clock.now(), detail: null, ...entry });
      return done;
    });
    return result;
  }
  const machine = (id: number, hostType: string) => {
    bus.publish(`machine:${id}`);
    bus.publish(`queue:${hostType}`);
  };
  const host = (hostType: string) => {
    bus.publish("farm:");
    bus.publish(`queue:${hostType}`);
  };
  const everything = () => {
    bus.publish("drain:");
    bus.publish("farm:");
    bus.publish("queue:");
  };
  return {
    rebuild: (build, who) => builds.rebuild(build, who),
    async cancel(build, who) {
      if (await builds.cancel(build, who)) return;
      throw new FarmError("conflict", `Cannot cancel build ${build}: it has ended already`);
    },
    async drainMachine(id, note, who) {
      const entry = { who, action: "drain", subject: `machine:${id}`, detail: note };
      machine(id, (await recorded(entry, (tx) => drainMachine(tx, machineId(id), note, clock.now()))).hostType);
    },
    async resumeMachine(id, who) {
      const entry = { who, action: "resume", subject: `machine:${id}` };
      machine(id, (await recorded(entry, (tx) => resumeMachine(tx, machineId(id)))).hostType);
    },
    async readmitMachine(id, who) {
      const entry = { who, action: "readmit", subject: `machine:${id}` };
      machine(id, (await recorded(entry, (tx) => readmitMachine(tx, machineId(id), clock.now()))).hostType);
    },
    async drainFarm(note, who) {
      const entry = { who, action: "drain", subject: "farm:", detail: note };
      await recorded(entry, (tx) => drainFarm(tx, note, clock.now()));
      everything();
    },
    async resumeFarm(who) {
      await recorded({ who, action: "resume", subject: "farm:" }, resumeFarm);
      everything();
    },
    async drainCoordinator(note, who) {
      const entry = { who, action: "drain", subject: `coordinator:${coordinator}`, detail: note };
      await recorded(entry, (tx) => drainCoordinator(tx, coordinator, note, clock.now()));
      everything();
    },
    async resumeCoordinator(who) {
      const entry = { who, action: "resume", subject: `coordinator:${coordinator}` };
      await recorded(entry, (tx) => resumeCoordinator(tx, coordinator));
      everything();
    },
    async drainHostType(hostType, note, who) {
      const entry = { who, action: "drain", subject: `host type:${hostType}`, detail: note };
      await recorded(entry, (tx) => drainHostType(tx, hostType, note, clock.now()));
      host(hostType);
    },
    async resumeHostType(hostType, who) {
      await recorded({ who, action: "resume", subject: `host type:${hostType}` }, (tx) => resumeHostType(tx, hostType));
      host(hostType);
    },
    async revokeKey(key, who) {
      await recorded({ who, action: "revoke", subject: `key:${key}` }, (tx) => revokeMachineKey(tx, key, clock.now()));
      bus.publish(`key:${key}`);
    },
  };
}
