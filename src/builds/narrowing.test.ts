import { Readable } from "node:stream";
import { describe, expect, onTestFinished, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { type BuildId, buildId, type EpochMs, minutes, plus } from "../farm/ids.ts";
import { insertRebuild } from "../store/builds.ts";
import { branchHeads, recordBranch, recordRepo } from "../store/commits.ts";
import { claimLease } from "../store/leases.ts";
import { turnedBy } from "../store/pages-culprits.ts";
import { trimBranches } from "../store/retention.ts";
import type { Sql } from "../store/sql.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON } from "../store/testing/farm.ts";
import { LOOK_BACK, look, Narrowing } from "./narrowing.ts";
import { planFound } from "./plan-found.ts";
import { MOST_FAILED } from "./test-edges.ts";
import { TestFarm } from "./testing/farm.ts";

const HOST = "host-linux-amd64-x";
const REPO = "tool";

function farm(builder: object = {}) {
  return checkFarm({
    repos: [{ name: REPO, url: "/tool", depth: 1 }],
    hosts: [{ hostType: HOST, trust: "team" }],
    builders: [{ name: "linux-amd64", host: HOST, steps: ["make"], ...builder }],
  });
}

/** A repository whose commits have one letter each, and a farm that has planned its head. */
class Story {
  readonly database: TestDatabase;
  readonly sql: Sql;
  config = farm();

  constructor(database: TestDatabase) {
    this.database = database;
    this.sql = database.sql;
  }

  /** The branch is now `history`, oldest first, and `plans` of its newest commits are planned. */
  async push(history: string, plans = 1, branch = "main"): Promise<readonly string[]> {
    const commits = [...history].reverse().map((letter, i) => ({
      hash: hashOf(letter),
      parents: [...history].slice(-i - 2, -i - 1).map(hashOf),
      authorName: "A",
      authorEmail: "a@example.org",
      committedAt: at(letter),
      message: `change ${letter}`,
    }));
    return this.sql.tx(async (tx) => {
      await recordRepo(tx, REPO, "/tool");
      const was = (await branchHeads(tx, REPO)).get(branch);
      const fresh = await recordBranch(tx, { repo: REPO, branch, was, commits, keepTail: false }, NOON);
      return planFound(tx, this.config, { repo: REPO, branch, commits: fresh?.slice(0, plans) ?? [] }, at("z"));
    });
  }

  /** The open build of each of `letters` ends. */
  async end(letters: string, outcome: string): Promise<void> {
    for (const letter of letters) {
      const ended = await this.sql.query(
        `with b as (
           update build set state = 'ended', outcome = $2, ended_at = $3, started_at = $3 from commit c
           where c.id = commit_id and c.hash = $1 and state <> 'ended' returning build.id
         ), a as (
           update attempt set state = 'ended', outcome = $2, ended_at = $3, started_at = $3 from b where build_id = b.id returning lease_id
         )
         update lease set state = 'ended', ended_at = $3 from a where id = a.lease_id returning id`,
        [hashOf(letter), outcome, new Date(at("z"))],
      );
      expect([letter, ended.length]).toEqual([letter, 1]);
    }
  }

  /**
   * The open build of `letter` ends as its tests do: "a+ b- c~ d!" passed, failed, was flaky, lost its machines. `stopped`: at the first
   * that failed.
   */
  async test(letter: string, tests: string, stopped = false): Promise<void> {
    const names = tests.split(" ").map((test) => test.slice(0, -1));
    const outcomes = tests.split(" ").map((test) => OUTCOMES[test.at(-1) ?? ""] ?? "");
    const failed = outcomes.filter((outcome) => outcome === "failure" || outcome === "unschedulable").length;
    await this.sql.query(
      `with b as (
         select b.id from build b join commit c on c.id = b.commit_id where c.hash = $1 and b.state <> 'ended'
       ), r as (
         insert into test_run (build_id, listed_at, total, waiting, failed, known_ms, unknown, stopped, ended_at)
         select id, $4, cardinality($2::text[]), 0, $5, 0, 0, $6, $4 from b returning build_id
       )
       insert into test (build_id, number, name, state, outcome)
       select build_id, t.number, t.name, 'ended', t.outcome from r, unnest($2::text[], $3::text[]) with ordinality as t (name, outcome, number)`,
      [hashOf(letter), names, outcomes, new Date(at("z")), failed, stopped],
    );
    await this.end(letter, failed > 0 ? "failure" : "success");
  }

  /** `config`: of the coordinator that looks. */
  async look(what: "everything" | "the line" = "everything", config = this.config): Promise<void> {
    const { bus } = this.database;
    const clock = { now: () => at("z"), monotonic: () => 0, sleep: () => Promise.reject(new Error("no sleep")) };
    const line = { repo: REPO, branch: "main", builder: "linux-amd64" };
    const deps = { sql: this.sql, bus, clock, log: quiet, config: () => config };
    await look(deps, what === "everything" ? what : [line]);
  }

  /** "a:skipped b:scheduled+": all builds, `+` those that narrow. */
  async builds(): Promise<string> {
    const rows = await this.sql.query<{ letter: string; state: string; outcome: string | null; narrows: boolean }>(
      "select left(c.hash, 2) as letter, b.state, b.outcome, b.narrows from build b join commit c on c.id = b.commit_id order by b.id",
    );
    return rows.map((row) => `${letterOf(row.letter)}:${row.outcome ?? row.state}${row.narrows ? "+" : ""}`).join(" ");
  }

  /** "commit f after e". */
  async standing(): Promise<string> {
    const rows = await this.sql.query<{
      test: string | null;
      kind: string;
      red: string;
      green: string | null;
      between: number;
    }>(
      `select s.test, s.kind, left(r.hash, 2) as red, left(g.hash, 2) as green, s.between
       from standing s join commit r on r.id = s.red_commit left join commit g on g.id = s.green_commit order by s.branch, s.place`,
    );
    return rows
      .map((s) => `${s.test === null ? "" : `${s.test}: `}${s.kind} ${letterOf(s.red)} after ${s.green === null ? "nothing" : letterOf(s.green)}${s.between > 0 ? ` (${s.between})` : ""}`) // biome-ignore format: one thought
      .join(", ");
  }
}

const OUTCOMES: Readonly<Record<string, string>> = {
  "+": "success",
  "-": "failure",
  "~": "flaky",
  ".": "skipped",
  "!": "unschedulable",
};
const hashOf = (letter: string): string => letter.charCodeAt(0).toString(16).repeat(20);
const letterOf = (start: string): string => String.fromCharCode(Number.parseInt(start, 16));
const at = (letter: string): EpochMs => plus(NOON, minutes(letter.charCodeAt(0)));

async function story(builder: object = {}): Promise<Story> {
  const database = await freshDatabase();
  onTestFinished(() => database[Symbol.asyncDispose]());
  await addHostType(database.sql, HOST);
  const told = new Story(database);
  told.config = farm(builder);
  return told;
}

/** `abcdefghi`, a is green and i is red, nothing else was built. */
async function redAfterGreen(builder: object = {}): Promise<Story> {
  const told = await story(builder);
  await told.push("a");
  await told.end("a", "success");
  await told.push("abcdefghi");
  await told.end("i", "failure");
  await told.look();
  return told;
}

describe("superseded", () => {
  test("newest: what waits behind a newer commit is skipped and says by which, what runs and what was asked for is not", async () => {
    const told = await story({ superseded: "newest" });
    await told.push("abc", 3);
    expect(await told.builds()).toBe("c:scheduled b:skipped a:skipped");
    const reasons = await told.sql.query(
      `select b.reason, a.outcome, l.state from build b join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id
       where b.outcome = 'skipped'`,
    );
    const reason = `overtaken by ${hashOf("c").slice(0, 8)} before it began`;
    expect(reasons).toEqual([
      { reason, outcome: "skipped", state: "ended" },
      { reason, outcome: "skipped", state: "ended" },
    ]);
    await told.sql.query("update lease set state = 'held' where state = 'wanted'");
    await told.push("abcd");
    await insertRebuild(told.sql, { of: buildId(2), who: "ann", class: "try", rank: 1, starvesAt: NOON }, NOON);
    await insertRebuild(told.sql, { of: buildId(4), who: "ann", class: "try", rank: 1, starvesAt: NOON }, NOON);
    await told.push("abcdef", 2);
    expect(await told.builds()).toBe("c:scheduled b:skipped a:skipped d:scheduled b:scheduled f:scheduled e:skipped");
    const classes = await told.sql.query("select class from lease where state = 'wanted' order by id");
    expect(classes).toEqual([{ class: 1 }, { class: 1 }, { class: 2 }]);
  });

  test("newest: planning again plans nothing again; a skipped commit that becomes the head of another branch is built", async () => {
    const told = await story({ superseded: "newest" });
    await told.push("abc", 3);
    await told.push("abc", 3);
    const before = await told.builds();
    await told.push("ab", 1, "release");
    expect([before, await told.builds()]).toEqual([
      "c:scheduled b:skipped a:skipped",
      "c:scheduled b:skipped a:skipped b:scheduled",
    ]);
    await told.push("abcd");
    expect(await told.builds()).toBe("c:skipped b:skipped a:skipped b:scheduled d:scheduled");
  });

  test("batch: while machines are free every commit is built, under load only the newest", async () => {
    const told = await story({ superseded: "batch" });
    const test = await TestFarm.open(told.database);
    onTestFinished(() => test[Symbol.asyncDispose]());
    test.claims.withdraw((await test.connect(HOST, "one")).id);
    test.claims.withdraw((await test.connect(HOST, "two")).id);
    await told.push("abcd", 4);
    expect(await told.builds()).toBe("d:scheduled c:scheduled b:skipped a:skipped");
  });

  test("a forced push: what waits for a commit that is gone was overtaken too", async () => {
    const told = await story({ superseded: "newest" });
    await told.push("abc");
    await told.push("ax");
    expect(await told.builds()).toBe("c:skipped x:scheduled");
  });
});

describe("red after green", () => {
  test("commits between are built one at a time, in the background, until the culprit is known", async () => {
    const told = await redAfterGreen();
    expect([await told.builds(), await told.standing()]).toEqual([
      "a:success i:failure e:scheduled+",
      "range i after a (7)",
    ]);
    const lease = await told.sql.query("select class, provenance from lease where state = 'wanted'");
    expect(lease).toEqual([{ class: 3, provenance: "submitted" }]);
    await told.look();
    await told.end("e", "success");
    await told.look();
    await told.end("g", "failure");
    await told.look();
    await told.end("f", "success");
    await told.look();
    expect([await told.builds(), await told.standing()]).toEqual([
      "a:success i:failure e:success+ g:failure+ f:success+",
      "commit g after f",
    ]);
  });

  test("two branches that share commits do not take back what the other one needs", async () => {
    const told = await story();
    await told.push("a");
    await told.end("a", "success");
    await told.push("abcdefg");
    await told.end("g", "success");
    await told.push("abcdefghi");
    await told.push("abcdx", 1, "release");
    await told.end("ix", "failure");
    for (let n = 0; n < 3; n++) await told.look();
    expect([await told.standing(), await told.builds()]).toEqual([
      "range i after g (1), range x after a (3)",
      "a:success g:success i:failure x:failure h:scheduled+ c:scheduled+",
    ]);
  });

  test("a build by an older recipe that somebody repeats says nothing about what is newer", async () => {
    const told = await story();
    await told.push("a");
    await told.end("a", "failure");
    told.config = farm({ steps: ["make world"] });
    const [commit] = await told.sql.query<{ id: number }>("select id from commit");
    const commits = [{ id: commit?.id ?? 0, hash: hashOf("a"), committedAt: at("a") }];
    await told.sql.tx((tx) => planFound(tx, told.config, { repo: REPO, branch: "main", commits }, at("z")));
    await told.end("a", "success");
    await insertRebuild(told.sql, { of: buildId(1), who: "ann", class: "try", rank: 1, starvesAt: NOON }, NOON);
    await told.end("a", "failure");
    await told.look();
    expect([await told.standing(), await told.builds()]).toEqual(["", "a:failure a:success a:failure"]);
  });

  test("several coordinators that look at once build one commit once", async () => {
    const told = await redAfterGreen();
    await told.end("e", "success");
    await Promise.all(Array.from({ length: 8 }, () => told.look()));
    expect(await told.builds()).toBe("a:success i:failure e:success+ g:scheduled+");
  });

  test("batch: 1, 2, 4 back from the red one, two at a time, in the class of post-submit builds", async () => {
    const told = await redAfterGreen({ superseded: "batch" });
    expect(await told.builds()).toBe("a:success i:failure h:scheduled+ g:scheduled+");
    await told.end("gh", "failure");
    await told.look();
    const classes = await told.sql.query("select distinct class from lease where state = 'wanted'");
    expect([await told.builds(), classes]).toEqual([
      "a:success i:failure h:failure+ g:failure+ e:scheduled+",
      [{ class: 2 }],
    ]);
  });

  test("batch: what finds the culprit takes turns with newer commits, however many are pushed", async () => {
    const told = await redAfterGreen({ superseded: "batch" });
    const machine = await addMachine(told.sql, HOST, "one", await addCoordinator(told.sql));
    const claimed: string[] = [];
    let history = "abcdefghi";
    for (const letter of "jklmnop") {
      history += letter;
      await told.push(history);
      const { lease } = await claimLease(told.sql, machine.id, at(letter));
      const [build] = await told.sql.query<{ letter: string; narrows: boolean }>(
        `select left(c.hash, 2) as letter, b.narrows from attempt a join build b on b.id = a.build_id join commit c on c.id = b.commit_id
         where a.lease_id = $1`,
        [lease?.id],
      );
      claimed.push(`${letterOf(build?.letter ?? "")}${build?.narrows ? "+" : ""}`);
      await told.end(letterOf(build?.letter ?? ""), (build?.letter ?? "") < hashOf("f") ? "success" : "failure");
      await told.look();
    }
    expect(claimed.join(" ")).toBe("j h+ l g+ n e+ p");
  });

  test("batch: a commit that was skipped is built after all", async () => {
    const told = await story({ superseded: "batch" });
    await told.push("a");
    await told.end("a", "success");
    await told.push("abc", 2);
    await told.end("c", "failure");
    await told.look();
    expect(await told.builds()).toBe("a:success c:failure b:skipped b:scheduled+");
  });

  test("a forced push: the range is looked at anew, builds of commits that are gone are canceled, begun or not", async () => {
    const told = await redAfterGreen();
    await told.sql.query("update build set state = 'running' where narrows");
    const topics = await told.push("abcxyz");
    const canceled = await told.sql.query<{ id: BuildId }>("select id from build where outcome = 'canceled'");
    expect([await told.builds(), topics]).toEqual([
      "a:success i:failure e:canceled+ z:scheduled",
      expect.arrayContaining([`cancel:${canceled[0]?.id}`]),
    ]);
    await told.look();
    expect(await told.standing()).toBe("");
    await told.end("z", "failure");
    await told.look();
    expect([await told.standing(), await told.builds()]).toEqual([
      "range z after a (4)",
      "a:success i:failure e:canceled+ z:failure x:scheduled+",
    ]);
  });

  test("a branch that goes back to an older commit takes its builds with it", async () => {
    const told = await redAfterGreen();
    await told.push("abc");
    expect(await told.builds()).toBe("a:success i:failure e:canceled+");
    await told.look();
    expect(await told.standing()).toBe("");
  });

  test("green after red meanwhile: nothing is looked for any more", async () => {
    const told = await redAfterGreen();
    await told.push("abcdefghij");
    await told.end("j", "success");
    await told.look();
    expect([await told.builds(), await told.standing()]).toEqual(["a:success i:failure e:skipped+ j:success", ""]);
  });

  test("a commit that the farm cannot build is passed over, and the range stays when nothing is left", async () => {
    const told = await story();
    await told.push("a");
    await told.end("a", "success");
    await told.push("abc");
    await told.end("c", "failure");
    for (let n = 0; n < 2; n++) {
      await told.look();
      await told.end("b", "infra_failure");
    }
    await told.look();
    expect([await told.builds(), await told.standing()]).toEqual([
      "a:success c:failure b:infra_failure+ b:infra_failure+",
      "range c after a (1)",
    ]);
  });

  test("what somebody canceled is not planned again", async () => {
    const told = await redAfterGreen();
    await told.end("e", "canceled");
    await told.look();
    expect(await told.builds()).toBe("a:success i:failure e:canceled+ f:scheduled+");
  });

  test("a changed configuration: before a commit is accused, the green one is built by the new recipe", async () => {
    const told = await story();
    await told.push("ab");
    await told.end("b", "success");
    told.config = farm({ steps: ["make world"] });
    await told.push("abc");
    await told.end("c", "failure");
    await told.look();
    expect([await told.builds(), await told.standing()]).toEqual([
      "b:success c:failure b:scheduled+",
      "range c after b",
    ]);
    await told.end("b", "failure");
    await told.look();
    expect(await told.standing()).toBe("recipe b after b");
  });

  test("nothing is built by a recipe that is not in force, nor for known issues, nor for a builder that is gone", async () => {
    const told = await redAfterGreen();
    for (const config of [farm({ steps: ["other"] }), farm({ knownIssues: [1] }), farm({ name: "linux-386" })]) {
      told.config = config;
      await told.look();
      expect(await told.builds()).toBe("a:success i:failure e:skipped+");
    }
    expect(await told.standing()).toBe("");
  });

  test("two coordinators whose configurations differ for a while do not undo each other's work in a circle", async () => {
    const told = await redAfterGreen();
    const others = farm({ steps: ["other"] });
    for (let n = 0; n < 10; n++) {
      await told.look("the line", others);
      await told.look("the line");
    }
    expect(await told.builds()).toBe("a:success i:failure e:scheduled+");
  });

  test("a commit that was named stays named, however many red ones follow, and retention keeps it", async () => {
    const told = await story();
    await told.push("ab", 2);
    await told.end("a", "success");
    await told.end("b", "failure");
    await told.look();
    await told.sql.query(
      `with c as (
         insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at)
         select $1, $2 || n, array[$2 || n - 1], 'A', 'a@example.org', $3, 'm', $3 from generate_series(1, $4::integer) n returning id, hash
       ), h as (
         insert into branch_commit (repo, branch, position, commit_id)
         select $1, 'main', 2 + substr(hash, 5)::integer, id from c
       )
       insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, created_at, started_at, ended_at)
       select repo, c.id, branch, builder, host_type, recipe, provenance, class, state, outcome, created_at, started_at, ended_at
       from c, build b where b.outcome = 'failure'`,
      [REPO, "more", new Date(at("c")), LOOK_BACK + 10],
    );
    await told.look();
    expect(await told.standing()).toBe("commit b after a");
    while ((await trimBranches(told.sql, REPO, 100, at("z"), 1000)) > 0);
    await told.look();
    expect(await told.standing()).toBe("commit b after a");
    expect(await told.sql.query("select count(*)::integer as kept from branch_commit")).toEqual([{ kept: 102 }]);
  });

  test("never green: a root commit and a builder newer than the commits accuse nobody", async () => {
    const told = await story();
    await told.push("abc");
    await told.end("c", "failure");
    await told.look();
    expect([await told.builds(), await told.standing()]).toEqual(["c:failure", "never green c after nothing"]);
  });
});

describe("tests that turned red", () => {
  const TESTS = { tests: { list: ["a", "b", "c"], run: "./run" } };

  /** `abcdefghi`, a passed all its tests and i failed by `tests`. */
  async function redTests(tests: string, builder: object = {}): Promise<Story> {
    const told = await story({ ...TESTS, ...builder });
    await told.push("a");
    await told.test("a", "a+ b+ c+");
    await told.push("abcdefghi");
    await told.test("i", tests);
    await told.look();
    return told;
  }

  test("each has an edge of its own, and one build answers for all", async () => {
    const told = await redTests("a- b- c+");
    expect(await told.standing()).toBe("a: range i after a (7), b: range i after a (7)");
    await told.test("e", "a- b+ c-"); // c was red then, and is not any more
    await told.look();
    expect(await told.standing()).toBe("a: range e after a (3), b: range i after e (3)");
    for (const [letter, tests] of [["c", "a+ b+ c+"], ["d", "a+ b+ c+"], ["g", "a- b- c+"], ["f", "a- b+ c~"]] as const) {
      await told.test(letter, tests);
      await told.look();
    } // biome-ignore format: one thought
    expect([await told.standing(), await told.builds()]).toEqual([
      "a: commit e after d, b: commit g after f",
      "a:success i:failure e:failure+ c:success+ d:success+ g:failure+ f:failure+",
    ]);
    await told.push("abcdefghij");
    await told.test("j", "a+ b- c+");
    await told.look();
    expect(await told.standing()).toBe("b: commit g after f");
    await told.push("abcdefghijk");
    await told.test("k", "a+ b+ c+");
    await told.look();
    expect(await told.standing()).toBe("");
  });

  test("several coordinators that look at once build one commit once", async () => {
    const told = await redTests("a- b- c+");
    await told.test("e", "a- b+ c+");
    await Promise.all(Array.from({ length: 8 }, () => told.look()));
    expect(await told.builds()).toBe("a:success i:failure e:failure+ c:scheduled+");
  });

  test("a build that failed before its tests, that left a test out or does not have it, says nothing about the test, and is not repeated", async () => {
    const told = await redTests("a- b+ c+");
    await told.end("e", "failure");
    await told.look();
    await told.test("f", "b+ c-");
    await told.look();
    await told.test("d", "c- a. b+", true);
    await told.look();
    expect([await told.standing(), await told.builds()]).toEqual([
      "a: range i after a (7)",
      "a:success i:failure e:failure+ f:failure+ d:failure+ g:scheduled+",
    ]);
  });

  test("a test whose machines were lost says nothing about the code, nor does a build that failed by nothing else", async () => {
    const lost = await redTests("a! b+ c+");
    expect([await lost.standing(), await lost.builds()]).toEqual(["", "a:success i:failure"]);
    const told = await redTests("a- b- c+");
    await told.test("e", "a! b- c+");
    await told.look();
    expect(await told.standing()).toBe("a: range i after a (7), b: range e after a (3)");
  });

  test("however many tests lost their machines, those that failed are told one by one", async () => {
    const lost = Array.from({ length: MOST_FAILED + 1 }, (_, n) => `l${n}!`).join(" ");
    const told = await redTests(`a- b- c+ ${lost}`);
    expect(await told.standing()).toBe("a: range i after a (7), b: range i after a (7)");
    await told.test("e", `a+ b- c+ ${lost}`);
    await told.look();
    expect(await told.standing()).toBe("a: range i after e (3), b: range e after a (3)");
  });

  test("a commit whose build lost machines and failed by nothing else broke nothing", async () => {
    const told = await story(TESTS);
    await told.push("abc", 3);
    await told.test("a", "a+ b+ c+");
    await told.test("b", "a+ b! c+");
    await told.test("c", "a+ b- c!");
    const commits = await told.sql.query<{ id: number }>("select id from commit order by hash");
    const turned = await Promise.all(commits.map(({ id }) => turnedBy(told.sql, id)));
    expect(turned).toEqual([[], [], []]);
    await told.sql.query("update test set outcome = 'failure' where outcome = 'unschedulable'");
    const [, second] = commits;
    expect(await turnedBy(told.sql, second?.id ?? 0)).toEqual([{ builder: "linux-amd64", mended: false }]);
  });

  test("a new test that fails has no green end: then the builder is looked at as a whole", async () => {
    const told = await redTests("a+ b+ c+ n-");
    expect([await told.standing(), await told.builds()]).toEqual([
      "range i after a (7)",
      "a:success i:failure e:scheduled+",
    ]);
  });

  test("when very many fail at once they are one", async () => {
    const many = Array.from({ length: 11 }, (_, n) => `t${n}`);
    const told = await redTests(many.map((name) => `${name}-`).join(" "));
    expect(await told.standing()).toBe("range i after a (7)");
  });

  test("what fails before the tests is the builder's", async () => {
    const told = await redTests("a- b+ c+");
    await told.push("abcdefghij");
    await told.end("j", "failure");
    await told.look();
    expect(await told.standing()).toBe("range i after a (7)");
  });
});

test("many coordinators that plan, look and are asked at once leave one open build of each commit, and skip nothing asked for", async () => {
  const told = await story({ superseded: "newest" });
  await told.push("a");
  await told.end("a", "success");
  await Promise.all(Array.from({ length: 6 }, () => told.push("abcdef", 5)));
  expect(await told.builds()).toBe("a:success f:scheduled e:skipped d:skipped c:skipped b:skipped");
  const ask = () =>
    insertRebuild(told.sql, { of: buildId(2), who: "ann", class: "try", rank: 1, starvesAt: NOON }, NOON);
  await Promise.all([1, 2, 3, 4].flatMap(() => [told.push("abcdefg"), told.look(), ask()]));
  const open = await told.sql.query(
    `select left(c.hash, 2) as commit, b.requested_by as who, count(*) as builds, count(*) filter (where l.state = 'wanted') as leases
     from build b join commit c on c.id = b.commit_id join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id
     where b.state <> 'ended' group by 1, 2 order by 1`,
  );
  expect(open).toEqual([
    { commit: hashOf("f").slice(0, 2), who: "ann", builds: 1, leases: 1 },
    { commit: hashOf("g").slice(0, 2), who: null, builds: 1, leases: 1 },
  ]);
});

test("a farm finds the culprit by itself while its machines idle", async () => {
  const told = await story();
  let hash = "";
  const tarball: NonNullable<Parameters<typeof TestFarm.open>[1]>["tarball"] = async (_repo, of) => {
    hash = of;
    return Readable.from([Buffer.alloc(10)]);
  };
  const { sql, bus } = told.database;
  const machines = await TestFarm.open(told.database, { tarball });
  onTestFinished(() => machines[Symbol.asyncDispose]());
  await machines.connect(HOST, "one", { script: () => ({ state: hash >= hashOf("p") ? "exit status 1" : "ok" }) });
  await told.push("a");
  bus.publish(`queue:${HOST}`);
  await expect.poll(() => told.builds()).toBe("a:success");
  const narrowing = new Narrowing({ sql, bus, clock: systemClock, log: quiet, config: () => told.config });
  onTestFinished(() => narrowing[Symbol.asyncDispose]());
  for (const topic of await told.push("abcdefghijklmnopqrstuvwxyz")) bus.publish(topic);
  await expect.poll(() => told.standing(), { timeout: 20_000 }).toBe("commit p after o");
  const [count] = await sql.query<{ count: number }>("select count(*) as count from build where narrows");
  expect(count?.count).toBeLessThanOrEqual(5);
});
