import { expect, test } from "vitest";
import { attemptId, ms } from "../farm/ids.ts";
import { beginAttempt, giveUpAttempt } from "./attempts.ts";
import { helpersMayCome } from "./helper-leases.ts";
import { claimLease } from "./leases.ts";
import { skipBuilds } from "./superseded.ts";
import { storeTests } from "./test-run.ts";
import { testTurn } from "./test-turn.ts";
import { freshDatabase } from "./testing/database.ts";
import { addBuild, addCoordinator, addMachine, NOON } from "./testing/farm.ts";

const RULES = {
  spec: { groupTargetMs: 100, unknownMs: 1000, keepGoing: true },
  mostTests: 100,
  mostBytes: 1000,
  helpers: 1,
  elsewhereFirst: ms(0),
  nonce: "n",
  takes: true,
};
const POLICY = { retries: 3, attempts: 20, elsewhereFirst: ms(0), pause: () => ms(0) };

test("skipBuilds() lets go of the tests of a build that is tried again: its helpers have ended, and nothing stays running", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  const build = await addBuild(sql);
  const claimed = async (name: string) => {
    const machine = await addMachine(sql, "linux", name, coordinator);
    const { lease } = await claimLease(sql, machine.id, NOON);
    if (!lease) throw new Error("There is nothing to do");
    return { build, lease: lease.id, epoch: lease.epoch, machine: lease.machineId, whole: lease };
  };
  const main = await claimed("main");
  const begun = await beginAttempt(sql, main.whole, NOON);
  const tests = ["a", "b", "c"].map((name) => ({ name, expectedMs: 1000, alone: false }));
  await storeTests(sql, main, tests, "", NOON);
  await helpersMayCome(sql, build, RULES, NOON);
  const helper = await claimed("helper");
  for (const worker of [main, helper]) expect((await testTurn(sql, worker, undefined, RULES, NOON)).next).toBe("group");
  const giveUp = { epoch: main.epoch, by: "driver", reason: "gone", counts: true, machineFault: true } as const;
  await giveUpAttempt(sql, { attempt: begun?.attempt ?? attemptId(0), ...giveUp, end: undefined }, POLICY, NOON);
  expect((await skipBuilds(sql, [build], "not needed any more", NOON)).map(({ id }) => id)).toEqual([build]);
  const states = await sql.query(
    `select array(select distinct state from test_group) as groups, array(select distinct state from test) as tests,
       array(select distinct state from lease) as leases, (select array[waiting, running] from test_run) as sums`,
  );
  expect(states).toEqual([{ groups: ["ended"], tests: ["waiting"], leases: ["ended"], sums: [3, 0] }]);
  expect((await testTurn(sql, helper, undefined, RULES, NOON)).next).toBe("lost");
});
