import { expect, test } from "vitest";
import { attemptId, ms } from "../farm/ids.ts";
import { giveUpAttempt, type RetryPolicy } from "./attempts.ts";
import { insertBuilds } from "./builds.ts";
import type { Sql } from "./sql.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCommit, addHostType, NOON, testRecipe } from "./testing/farm.ts";

const POLICY: RetryPolicy = { retries: 3, attempts: 20, elsewhereFirst: ms(60_000), pause: () => ms(0) };

async function oneBuild(sql: Sql): Promise<void> {
  await addHostType(sql, "linux");
  const commitId = await addCommit(sql, "tool", "a".repeat(40));
  const build = {
    repo: "tool",
    commitId,
    branch: "main",
    head: true,
    recipe: testRecipe("b", "linux"),
    rank: 0,
    starvesAt: NOON,
  } as const;
  await insertBuilds(sql, [{ ...build, provenance: "submitted", class: "post-submit" }], NOON);
}

/** Gives up attempt after attempt; returns how many there were. */
async function giveUpAll(sql: Sql, counts: boolean): Promise<number> {
  for (let given = 0; ; given++) {
    const [open] = await sql.query<{ id: number }>("select id from attempt where state <> 'ended'");
    if (!open) return given;
    const giveUp = {
      attempt: attemptId(open.id),
      epoch: 0,
      reason: "gone",
      counts,
      machineFault: false,
      end: undefined,
    };
    await giveUpAttempt(sql, giveUp, POLICY, NOON);
    expect(await giveUpAttempt(sql, giveUp, POLICY, NOON)).toBeUndefined(); // repeating changes nothing
  }
}

test("giveUpAttempt() charges failures to the budget: one attempt and three more", async () => {
  await using database = await freshDatabase();
  await oneBuild(database.sql);
  expect(await giveUpAll(database.sql, true)).toBe(4);
});

test("giveUpAttempt() does not charge the farm's own restarts, but even they end after 20 attempts", async () => {
  await using database = await freshDatabase();
  await oneBuild(database.sql);
  expect(await giveUpAll(database.sql, false)).toBe(20);
  const [build] = await database.sql.query("select state, outcome, reason from build");
  expect(build).toEqual({ state: "ended", outcome: "infra_failure", reason: "gone" });
});
