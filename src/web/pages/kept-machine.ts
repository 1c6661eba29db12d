/** What the page of a failed build says about the build's machine, for those who may see it. */
import type { FarmConfig } from "../../config/effective.ts";
import { mayNotBorrow } from "../../farm/lending.ts";
import { rightsOn, type Visitor } from "../../gomote/access.ts";
import { couldBeKept } from "../../store/gomote-holds.ts";
import type { BuildFacts } from "../../store/pages-build.ts";
import { instanceOfBuild } from "../../store/pages-gomote.ts";
import type { Sql } from "../../store/sql.ts";
import type { BuildLine } from "../../ui/data.ts";
import type { BuildMachine } from "../../ui/pages/build-machine.tsx";
import { hostOf } from "./gomotes.ts";

export interface KeptMachine {
  readonly machine: BuildMachine;
  /** The number of the instance that holds the machine. */
  readonly instance?: number;
}

/** What the page says of the machine. Undefined: `who` may not see it, or the machine is not there any more. */
export async function keptMachine(
  sql: Sql,
  config: Pick<FarmConfig, "hosts">,
  { id }: Pick<BuildFacts, "id">,
  { hostType, machine }: Pick<BuildLine, "hostType" | "machine">,
  who: Visitor,
): Promise<KeptMachine | undefined> {
  if (who.kind === "nobody") return undefined;
  const host = hostOf(config, hostType);
  const instance = await instanceOfBuild(sql, id);
  if (instance) {
    const rights = rightsOn(who, instance, host);
    if (!rights) return undefined;
    const { name, email, upAt, agent } = instance;
    const use = rights.use && upAt !== null;
    return {
      machine: { kind: "kept", instance: name, email, use, hasShell: agent === "barnraiser" },
      instance: instance.id,
    };
  }
  const mayBorrow = who.kind === "person" && host && mayNotBorrow(who.person, host) === undefined;
  if (!mayBorrow || !machine || !(await couldBeKept(sql, id))) return undefined;
  return { machine: { kind: "free", machine: machine.name } };
}
