import { expect, test } from "vitest";
import { ms } from "../farm/ids.ts";
import { beginAttempt, endAttempt, giveUpAttempt } from "./attempts.ts";
import { cancelBuild } from "./builds.ts";
import { helpersMayCome } from "./helper-leases.ts";
import type { Sql } from "./sql.ts";
import { skipBuilds } from "./superseded.ts";
import { storeTests } from "./test-run.ts";
import { testTurn } from "./test-turn.ts";
import { freshDatabase } from "./testing/database.ts";
import { addBuild, addCoordinator, NOON } from "./testing/farm.ts";
import { RULES, TESTS, workerOf } from "./testing/tests.ts";

const POLICY = { retries: 3, attempts: 20, elsewhereFirst: ms(0), pause: () => ms(0) };

/** A build of three tests: one runs on its own machine, one on a helper's, one waits. */
async function underWay(sql: Sql) {
  const coordinator = await addCoordinator(sql);
  const build = await addBuild(sql);
  const main = await workerOf(sql, coordinator, build, "main");
  const begun = await beginAttempt(sql, main.claimed, NOON);
  if (!begun) throw new Error("The attempt did not begin");
  await storeTests(sql, main, TESTS, "", NOON);
  await helpersMayCome(sql, build, RULES, NOON);
  const helper = await workerOf(sql, coordinator, build, "helper");
  const turns = [
    await testTurn(sql, main, undefined, RULES, NOON),
    await testTurn(sql, helper, undefined, RULES, NOON),
  ];
  const groups = turns.map((turn) => (turn.next === "group" ? turn.group : undefined));
  return { sql, build, attempt: begun.attempt, main, helper, groups };
}

type UnderWay = Awaited<ReturnType<typeof underWay>>;

function gaveUp({ sql, attempt, main }: UnderWay, retries: number) {
  const why = { by: "driver", reason: "gone", counts: true, machineFault: true, end: undefined } as const;
  return giveUpAttempt(sql, { attempt, epoch: main.epoch, ...why }, { ...POLICY, retries }, NOON);
}

const ENDERS: readonly (readonly [string, (at: UnderWay) => Promise<unknown>])[] = [
  ["a person", ({ sql, build }) => cancelBuild(sql, build, "ada", NOON)],
  ["the farm, which gave it up", (at) => gaveUp(at, 0)],
  [
    "a newer commit, after its attempt was lost",
    async (at) => {
      await gaveUp(at, 3);
      expect((await skipBuilds(at.sql, [at.build], "not needed any more", NOON)).map(({ id }) => id)).toEqual([
        at.build,
      ]);
    },
  ],
  [
    "its attempt, which ran out of time",
    ({ sql, attempt, main }) => {
      const step = { attempt, epoch: main.epoch, number: 1, status: "timed out", outcome: "failure" } as const;
      const verdict = { outcome: "failure", reason: "timed out", failedStep: "tests" } as const;
      return endAttempt(sql, step, undefined, verdict, true, NOON);
    },
  ],
  [
    "a failed test, the last that is run",
    async ({ sql, main, helper, groups }) => {
      const ran = { result: "failure", final: true, durationMs: 1, shareMs: null, from: 0, to: 0 } as const;
      for (const [i, worker] of [main, helper].entries()) {
        const group = groups[i];
        if (!group) throw new Error("There was no group");
        const log = { ...group.log, chunk: undefined, truncated: false };
        const tests = group.tests.map(({ number }) => ({ number, ...ran }));
        const done = { group: group.id, status: "exit status 1", line: "", log, tests };
        const rules = { ...RULES, spec: { ...RULES.spec, keepGoing: false } };
        await testTurn(sql, worker, done, rules, NOON);
      }
    },
  ],
];

test.each(ENDERS)("nothing of the tests of a build goes on that was ended by %s", async (_who, end) => {
  await using database = await freshDatabase();
  const { sql } = database;
  const at = await underWay(sql);
  await end(at);
  const states = await sql.query(
    `select array(select distinct state from build) as builds, array(select distinct state from test_group) as groups,
       array(select distinct ended from log l join test_group g on g.log_id = l.id) as logs,
       array(select distinct state from test) as tests, (select outcome from test where number = 3) as third,
       array(select distinct state from lease) as leases, (select array[waiting, running] from test_run) as sums`,
  );
  const ended = { builds: ["ended"], groups: ["ended"], logs: [true], tests: ["ended"], leases: ["ended"] };
  expect(states).toEqual([{ ...ended, third: "skipped", sums: [0, 0] }]);
  expect((await testTurn(sql, at.helper, undefined, RULES, NOON)).next).not.toBe("group");
});
