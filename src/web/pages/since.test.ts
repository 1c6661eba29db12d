/** Since when a pair is red, when a commit of the other repository did it. */
import { expect, test } from "vitest";
import { LOOK_BACK, look } from "../../builds/narrowing.ts";
import { planFound } from "../../builds/plan-found.ts";
import { HOST, PAIR_FARM } from "../../builds/testing/pair-farm.ts";
import type { Bus } from "../../farm/deps.ts";
import { buildId, plus, seconds } from "../../farm/ids.ts";
import { branchHeads, recordBranch, recordRepo } from "../../store/commits.ts";
import { buildFacts } from "../../store/pages-build.ts";
import { redBuilders } from "../../store/pages-culprits.ts";
import type { Sql } from "../../store/sql.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import { addHostType, NOON } from "../../store/testing/farm.ts";
import type { Since } from "../../ui/since.tsx";
import { redSentence, storyOf } from "./since.ts";

/** Two repositories, whose commits have one letter each, and the pairs of their heads. */
class Story {
  readonly sql: Sql;
  readonly #bus: Bus;

  constructor({ sql, bus }: TestDatabase) {
    this.sql = sql;
    this.#bus = bus;
  }

  /** `letters`: the commits of the repository, newest first. */
  push(repo: string, letters: string): Promise<unknown> {
    return this.sql.tx(async (tx) => {
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
      return planFound(tx, PAIR_FARM, { repo, branch: "main", commits: fresh ?? [] }, NOON);
    });
  }

  /** What waits ends so; the last that does. */
  async end(outcome: string): Promise<number> {
    const ended = await this.sql.query<{ id: number }>(
      "update build set state = 'ended', outcome = $1, started_at = now(), ended_at = now() where state <> 'ended' returning id",
      [outcome],
    );
    return ended.at(-1)?.id ?? 0;
  }

  look(): Promise<void> {
    return look(
      { sql: this.sql, bus: this.#bus, clock: systemClock, log: quiet, config: () => PAIR_FARM },
      "everything",
    );
  }

  /** What the page of the build says. */
  async since(build: number): Promise<Since | null> {
    const facts = await buildFacts(this.sql, buildId(build));
    if (facts === undefined) throw new Error(`The build ${build} is gone`);
    return (await storyOf(this.sql, facts, [], 0, async () => [])).since;
  }
}

test("the other repository's commit is named with its repository, on the build's page and in the grid", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, HOST);
  const story = new Story(database);
  await story.push("go", "1");
  await story.push("app", "a");
  await story.end("success");
  await story.push("go", "21");
  const red = await story.end("failure");
  await story.look();
  expect(await story.since(red)).toMatchObject({
    kind: "commit",
    other: null,
    first: { repo: "go", hash: "2".repeat(40), build: red, here: false, author: "Ann" },
    green: { hash: "1".repeat(40) },
  });
  const [row] = await redBuilders(database.sql, "app", "main");
  expect(row && redSentence(row)).toBe("red since go 22222222 change 2 by Ann, green before at 11111111");
});

test("the commit that is named stays named on the pages of newer builds, with other commits of the other repository, and in the grid", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, HOST);
  const story = new Story(database);
  await story.push("go", "1");
  await story.push("app", "a");
  await story.end("success");
  await story.push("app", "ba");
  await story.end("failure");
  await story.look();
  await story.push("go", "21");
  const red = await story.end("failure");
  await story.look(); // wants "a" with "2"
  const named = {
    kind: "commit",
    first: { repo: null, hash: "b".repeat(40), here: true },
    green: { hash: "a".repeat(40) },
  };
  expect(await story.since(red)).toMatchObject(named);
  const [row] = await redBuilders(database.sql, "app", "main");
  expect(row && redSentence(row)).toBe("red since bbbbbbbb change b by Ann, green before at aaaaaaaa");
});

test("the other repository's commit stays named, however many commits of it follow", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, HOST);
  const story = new Story(database);
  await story.push("go", "1");
  await story.push("app", "a");
  await story.end("success");
  await story.push("go", "21");
  await story.end("failure");
  await story.look();
  const more = Array.from({ length: LOOK_BACK + 10 }, (_, i) => String.fromCodePoint(0x5000 - i)).join("");
  await story.push("go", `${more}21`);
  const red = await story.end("failure");
  await story.look();
  expect(await story.since(red)).toMatchObject({ kind: "commit", first: { repo: "go", hash: "2".repeat(40) } });
  const [row] = await redBuilders(database.sql, "app", "main");
  expect(row && redSentence(row)).toBe("red since go 22222222 change 2 by Ann, green before at 11111111");
});
