/** Pairs: a commit of one repository tested with one of another, planned when either of the two moves. */
import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { goModule, goTree } from "../config/farm-config.ts";
import { goPolicy } from "../config/policy.ts";
import { epochMs, type Ms, plus, seconds } from "../farm/ids.ts";
import { branchHeads, type FoundCommit, recordBranch, recordRepo } from "../store/commits.ts";
import type { Sql } from "../store/sql.ts";
import { freshDatabase, type TestDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { type Known, planFound } from "./plan-found.ts";

const NOON = epochMs(Date.UTC(2026, 10, 23, 12));
const HOST = "host-linux-amd64-x";
const bootstrap = "none";

const farm = checkFarm({
  policy: goPolicy,
  repos: ["go", "net", "exp"].map((name) => ({ name, url: `/${name}` })),
  hosts: [{ hostType: HOST }],
  builders: [
    goTree({ name: "linux-amd64", host: HOST, bootstrap }),
    goModule({
      name: "linux-amd64-mod",
      host: HOST,
      bootstrap,
      repos: ["net", "exp"],
      importPath: "golang.org/x/$REPO",
      against: { branches: ["master", "release-branch.*"] },
      builtBy: "linux-amd64",
    }),
  ],
});

/** The age of a commit: all are of the last quarter of an hour, and later letters are newer. */
const ageOf = (letter: string): Ms => seconds(letter.charCodeAt(0) - 900);

/** Puts commits on `branch` of `repo`, newest first, each named by one letter, and plans their builds. */
function push(
  sql: Sql,
  repo: string,
  branch: string,
  letters: string,
  config = farm,
  known?: Known,
): Promise<readonly string[]> {
  return sql.tx(async (tx) => {
    await recordRepo(tx, repo, `/${repo}`);
    const commits = [...letters].map((letter, i): FoundCommit => {
      const committedAt = plus(NOON, ageOf(letter));
      const parents = [...letters].slice(i + 1, i + 2).map((parent) => parent.repeat(40));
      return { hash: letter.repeat(40), parents, authorName: "A", authorEmail: "a@x", committedAt, message: "m" };
    });
    const was = (await branchHeads(tx, repo)).get(branch);
    const fresh = await recordBranch(tx, { repo, branch, was, commits, keepTail: false }, NOON);
    return planFound(tx, config, { repo, branch, commits: fresh ?? [] }, NOON, known);
  });
}

/** Each pair, in order, as `net a with go 1 of master`, with its outcome. */
async function pairs({ sql }: TestDatabase): Promise<string[]> {
  const rows = await sql.query<{ line: string }>(
    `select b.repo || ' ' || left(c.hash, 1) || ' with ' || r.with_repo || ' ' || left(r.with_hash, 1) || ' of ' || r.with_branch
       || coalesce(' ' || b.outcome, '') as line
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where r.with_repo is not null order by b.id`,
  );
  return rows.map((row) => row.line);
}

test("a pair is planned whichever of the two moves, with each branch of the other one, and the same pair never twice", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST, "community");
  await push(sql, "net", "master", "a");
  expect(await pairs(database)).toEqual([]); // nothing is known of go yet
  await push(sql, "go", "master", "1");
  await push(sql, "go", "release-branch.go1.22", "2");
  await push(sql, "go", "dev.wild", "3");
  const first = ["net a with go 1 of master", "net a with go 2 of release-branch.go1.22"];
  expect(await pairs(database)).toEqual(first);
  await push(sql, "net", "master", "a");
  await push(sql, "go", "release-branch.go1.22", "2");
  expect(await pairs(database)).toEqual(first);
  const topics = await push(sql, "net", "master", "cba");
  expect(topics).toContain(`queue:${HOST}`);
  expect((await pairs(database)).slice(2)).toEqual(
    ["c", "b"].flatMap((net) => [`net ${net} with go 1 of master`, `net ${net} with go 2 of release-branch.go1.22`]),
  );
  const kept = await sql.query("select distinct provenance from build");
  expect(kept).toEqual([{ provenance: "submitted" }]);
});

test("a newer commit of the other repository takes back pairs of the head that have not begun; those that have go on", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  await push(sql, "go", "master", "1");
  await push(sql, "net", "master", "a");
  await push(sql, "go", "master", "21");
  await sql.query("update build set state = 'running' where repo = 'net' and state = 'scheduled'");
  await push(sql, "go", "master", "321");
  expect(await pairs(database)).toEqual([
    "net a with go 1 of master skipped",
    "net a with go 2 of master",
    "net a with go 3 of master",
  ]);
  const [skipped] = await sql.query("select reason from build where outcome = 'skipped'");
  expect(skipped).toEqual({ reason: 'overtaken by a newer commit of "go" before it began' });
});

test("[coordinator 58] what the policy refuses on a release branch, it refuses with one; minimumGoVersion counts for both", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  for (const repo of ["net", "exp"]) await push(sql, repo, "master", repo === "net" ? "a" : "e");
  const builders = farm.builders.map((builder) => ({ ...builder, minimumGoMinor: 20 }));
  for (const [branch, letter] of [
    ["master", "1"],
    ["release-branch.go1.19", "2"],
    ["release-branch.go1.22", "3"],
  ] as const) {
    await push(sql, "go", branch, letter, { ...farm, builders });
  }
  expect((await pairs(database)).toSorted()).toEqual([
    "exp e with go 1 of master",
    "net a with go 1 of master",
    "net a with go 3 of release-branch.go1.22",
  ]);
});

test("a pair is as new as the later of its two commits, and of a release branch when either is", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  await push(sql, "net", "master", "a");
  await push(sql, "go", "master", "1");
  await push(sql, "go", "release-branch.go1.25", "z");
  const rows = await sql.query(
    `select r.with_branch as go, -l.rank - $1 as at, l.release
     from build b join recipe r on r.digest = b.recipe join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id
     where r.with_repo is not null order by b.id`,
    [NOON],
  );
  expect(rows).toEqual([
    { go: "master", at: ageOf("a"), release: false },
    { go: "release-branch.go1.25", at: ageOf("z"), release: true },
  ]);
});

test("two coordinators that record one half of a new pair each, at the same time, plan it once", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  await push(sql, "go", "master", "1");
  await push(sql, "net", "master", "a");
  await Promise.all([push(sql, "go", "master", "21"), push(sql, "net", "master", "ba")]);
  expect((await pairs(database)).filter((pair) => pair.startsWith("net b with go 2"))).toHaveLength(1);
});

test("a builder with needs builds what has them all in its history, of a pair the other commit", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  const needed = "9".repeat(40);
  const builders = farm.builders.map((builder) => ({ ...builder, needs: [needed] }));
  const asked: string[] = [];
  const known = {
    watches: () => true,
    includes: async (repo: string, hash: string, need: string) => {
      asked.push(`${repo} ${hash[0]} ${need[0]}`);
      return hash.startsWith("2");
    },
  };
  for (const [repo, letters] of [
    ["net", "a"],
    ["go", "21"],
  ] as const) {
    await push(sql, repo, "master", letters, { ...farm, builders }, known);
  }
  expect(await pairs(database)).toEqual(["net a with go 2 of master"]);
  const own = await sql.query("select c.hash from build b join commit c on c.id = b.commit_id where b.repo = 'go'");
  expect(own).toEqual([{ hash: "2".repeat(40) }]);
  expect(asked.toSorted()).toEqual(["go 1 9", "go 2 9"]); // once each, though two builders and a pair want to know
});
