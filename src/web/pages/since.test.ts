/** Since when a pair is red, when a commit of the other repository did it. */
import { expect, test } from "vitest";
import { look } from "../../builds/narrowing.ts";
import { planFound } from "../../builds/plan-found.ts";
import { checkFarm } from "../../config/check.ts";
import { buildId, plus, seconds } from "../../farm/ids.ts";
import { branchHeads, recordBranch, recordRepo } from "../../store/commits.ts";
import { buildFacts } from "../../store/pages-build.ts";
import { redBuilders } from "../../store/pages-culprits.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet } from "../../store/testing/database.ts";
import { addHostType, NOON } from "../../store/testing/farm.ts";
import { redSentence, storyOf } from "./since.ts";

const HOST = "host-linux-amd64-x";
const FARM = checkFarm({
  repos: ["app", "go"].map((name) => ({ name, url: `/${name}` })),
  hosts: [{ hostType: HOST, trust: "team" }],
  builders: [
    {
      name: "mod",
      host: HOST,
      repos: ["app"],
      steps: ["make"],
      against: { repo: "go", branches: ["main"] },
      sources: [
        { dir: "src", commit: "own" },
        { dir: "go", commit: "other" },
      ],
    },
  ],
});

test("the other repository's commit is named with its repository, on the build's page and in the grid", async () => {
  await using database = await freshDatabase();
  const { sql, bus } = database;
  await addHostType(sql, HOST);
  /** `letters`: the commits of the repository, newest first. */
  const push = (repo: string, letters: string): Promise<unknown> =>
    sql.tx(async (tx) => {
      await recordRepo(tx, repo, `/${repo}`);
      const commits = [...letters].map((letter, i) => ({
        hash: letter.repeat(40),
        parents: [...letters].slice(i + 1, i + 2).map((parent) => parent.repeat(40)),
        authorName: "Ann",
        authorEmail: "ann@example.org",
        committedAt: plus(NOON, seconds(letter.charCodeAt(0))),
        message: `change ${letter}`,
      }));
      const was = (await branchHeads(tx, repo)).get("main");
      const fresh = await recordBranch(tx, { repo, branch: "main", was, commits, keepTail: false }, NOON);
      return planFound(tx, FARM, { repo, branch: "main", commits: fresh ?? [] }, NOON);
    });
  const end = async (outcome: string): Promise<number> => {
    const [ended] = await sql.query<{ id: number }>(
      "update build set state = 'ended', outcome = $1, started_at = now(), ended_at = now() where state <> 'ended' returning id",
      [outcome],
    );
    return ended?.id ?? 0;
  };
  await push("go", "1");
  await push("app", "a");
  await end("success");
  await push("go", "21");
  const red = await end("failure");
  await look({ sql, bus, clock: systemClock, log: quiet, config: () => FARM }, "everything");
  const facts = await buildFacts(sql, buildId(red));
  if (facts === undefined) throw new Error("The build is gone");
  const { since } = await storyOf(sql, facts, [], 0, async () => []);
  expect(since).toMatchObject({
    kind: "commit",
    other: null,
    first: { repo: "go", hash: "2".repeat(40), build: red, here: false, author: "Ann" },
    green: { hash: "1".repeat(40) },
  });
  const [row] = await redBuilders(sql, "app", "main");
  expect(row && redSentence(row)).toBe("red since go 22222222 change 2 by Ann, green before at 11111111");
});
