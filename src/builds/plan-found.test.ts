import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { buildId, epochMs, minutes, plus } from "../farm/ids.ts";
import { insertRebuild } from "../store/builds.ts";
import { freshDatabase } from "../store/testing/database.ts";
import { addCommit, addHostType } from "../store/testing/farm.ts";
import { planFound } from "./plan-found.ts";

const NOON = epochMs(Date.UTC(2026, 10, 23, 12));

/** A farm with one builder that runs `command`. */
function farm(command: string) {
  return checkFarm({
    repos: [{ name: "tool", url: "/tool" }],
    hosts: [{ hostType: "host-linux-amd64-x" }],
    builders: [{ name: "linux-amd64", host: "host-linux-amd64-x", steps: [command] }],
  });
}

test("a changed recipe builds the head anew and takes back what waits by the old one; older commits stay as they are", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "host-linux-amd64-x");
  const commits = [];
  for (const hash of ["b", "a"]) {
    const id = await addCommit(sql, "tool", hash.repeat(40));
    commits.push({ id, hash: hash.repeat(40), committedAt: NOON });
  }
  const found = { repo: "tool", branch: "main", commits };
  const builds = () =>
    sql.query(
      `select b.id, left(c.hash, 1) as commit, r.body #>> '{steps,0,command,2}' as command, b.outcome, l.state as lease
         from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
         join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id order by b.id`,
    );
  await planFound(sql, farm("one"), found, NOON);
  await planFound(sql, farm("one"), found, NOON);
  expect(await builds()).toEqual([
    { id: 1, commit: "b", command: "one", outcome: null, lease: "wanted" },
    { id: 2, commit: "a", command: "one", outcome: null, lease: "wanted" },
  ]);
  const topics = await planFound(sql, farm("two"), found, NOON);
  expect(topics).toContain("build:1");
  expect(await builds()).toEqual([
    { id: 1, commit: "b", command: "one", outcome: "skipped", lease: "ended" },
    { id: 2, commit: "a", command: "one", outcome: null, lease: "wanted" },
    { id: 3, commit: "b", command: "two", outcome: null, lease: "wanted" },
  ]);
  await planFound(sql, farm("one"), found, NOON);
  expect((await builds()).slice(2)).toEqual([
    { id: 3, commit: "b", command: "two", outcome: "skipped", lease: "ended" },
    { id: 4, commit: "b", command: "one", outcome: null, lease: "wanted" },
  ]);
});

test("a changed recipe leaves alone what somebody asked for, and what a machine has", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "host-linux-amd64-x");
  const id = await addCommit(sql, "tool", "a".repeat(40));
  const found = { repo: "tool", branch: "main", commits: [{ id, hash: "a".repeat(40), committedAt: NOON }] };
  await planFound(sql, farm("one"), found, NOON);
  await insertRebuild(sql, { of: buildId(1), who: "ann", class: "try", rank: 1, starvesAt: NOON }, NOON);
  await planFound(sql, farm("two"), found, NOON);
  await sql.query("update lease set state = 'held' where state = 'wanted'"); // claimed, and the attempt has not begun
  await planFound(sql, farm("three"), found, NOON);
  expect(await sql.query("select id, requested_by as who, state, outcome from build order by id")).toEqual([
    { id: 1, who: "ann", state: "scheduled", outcome: null },
    { id: 2, who: null, state: "scheduled", outcome: null },
    { id: 3, who: null, state: "scheduled", outcome: null },
  ]);
});

test("a commit whose committer's clock is ahead does not go before what was found since", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "host-linux-amd64-x");
  const future = await addCommit(sql, "tool", "f".repeat(40));
  const later = await addCommit(sql, "tool", "e".repeat(40));
  const one = (id: number, committedAt: typeof NOON) => ({
    repo: "tool",
    branch: "main",
    commits: [{ id, hash: "", committedAt }],
  });
  await planFound(sql, farm("x"), one(future, plus(NOON, minutes(60 * 24 * 365))), NOON);
  await planFound(sql, farm("x"), one(later, plus(NOON, minutes(1))), plus(NOON, minutes(1)));
  const order = await sql.query(
    "select b.commit_id as commit from lease l join attempt a on a.lease_id = l.id join build b on b.id = a.build_id order by l.rank",
  );
  expect(order).toEqual([{ commit: later }, { commit: future }]);
});
