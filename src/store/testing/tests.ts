/** Tests of a build in the database, and machines that take turns at them. */
import { type BuildId, type CoordinatorId, ms } from "../../farm/ids.ts";
import type { Lease } from "../../farm/lease.ts";
import { claimLease } from "../leases.ts";
import type { Sql } from "../sql.ts";

import type { NewTest, TestWorker, TurnRules } from "../test-run.ts";
import { addMachine, NOON } from "./farm.ts";

/** With these rules each of TESTS is a group of its own. */
export const RULES: TurnRules = {
  spec: { groupTargetMs: 100, unknownMs: 1000, keepGoing: true },
  mostTests: 100,
  mostBytes: 1000,
  helpers: 1,
  elsewhereFirst: ms(0),
  nonce: "n",
  takes: true,
};

export const TESTS: readonly NewTest[] = ["a", "b", "c"].map((name) => ({ name, expectedMs: 1000, alone: false }));

/** A machine `name` that joins and is given a lease, which must be a lease of `build`. */
export async function workerOf(
  sql: Sql,
  coordinator: CoordinatorId,
  build: BuildId,
  name: string,
): Promise<TestWorker & { readonly claimed: Lease }> {
  const machine = await addMachine(sql, "linux", name, coordinator);
  const { lease } = await claimLease(sql, machine.id, NOON);
  if (!lease) throw new Error("There is nothing to do");
  return { build, lease: lease.id, epoch: lease.epoch, machine: lease.machineId, claimed: lease };
}
