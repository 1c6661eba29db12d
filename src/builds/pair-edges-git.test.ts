/** Who broke a pair, in two real git repositories: its own commit, or one of the repository that it is tested with. */
import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { Bench } from "../source/testing/bench.ts";
import { TestRepository } from "../source/testing/repository.ts";
import { systemClock } from "../store/system-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { look } from "./narrowing.ts";
import { planFound } from "./plan-found.ts";

const HOST = "host-linux-amd64-x";
const FARM = checkFarm({
  repos: ["app", "go"].map((name) => ({ name, url: name, depth: 1 })),
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

/** For git and the farm on a busy machine. */
const SLOW = { timeout: 20_000 };

/** Both have one commit, `app 1` and `go 1`, and the pair of them is green. */
class Story {
  readonly bench: Bench;
  readonly app: TestRepository;
  readonly go: TestRepository;

  private constructor(bench: Bench, app: TestRepository, go: TestRepository) {
    this.bench = bench;
    this.app = app;
    this.go = go;
  }

  static async begin(bench: Bench): Promise<Story> {
    await addHostType(bench.sql, HOST);
    bench.planned = (tx, found) =>
      planFound(tx, FARM, { ...found, commits: found.commits.slice(0, 1) }, systemClock.now());
    const [app, go] = [
      await TestRepository.init(`${bench.folder}/app`),
      await TestRepository.init(`${bench.folder}/go`),
    ];
    await app.commit("app 1");
    await go.commit("go 1");
    const story = new Story(bench, app, go);
    await bench.open([{ name: "app", url: "app" }]);
    await bench.configure([
      { name: "app", url: "app" },
      { name: "go", url: "go" },
    ]);
    await expect.poll(() => story.waiting(), SLOW).toEqual(["app 1, go 1"]);
    await story.end("success");
    return story;
  }

  /** `count` commits each, of which the farm is told at once; the pairs of heads that are planned. */
  async push(own: number, other: number): Promise<void> {
    const { bench } = this;
    for (let i = 2; i < 2 + other; i++) await this.go.commit(`go ${i}`);
    for (let i = 2; i < 2 + own; i++) await this.app.commit(`app ${i}`);
    const head = `app ${1 + own}, go ${1 + other}`;
    bench.source.poke("go");
    bench.source.poke("app");
    await expect.poll(() => this.waiting(), SLOW).toContain(head);
    await bench.sql.query(
      `update build b set state = 'ended', outcome = 'canceled', ended_at = now() from commit c, recipe r
       where c.id = b.commit_id and r.digest = b.recipe and b.state <> 'ended' and (c.message, r.with_hash)
         is distinct from ($1, (select hash from commit where message = $2))`,
      head.split(", "),
    );
  }

  /** "app 2, go 1" of each build that waits. */
  async waiting(): Promise<string[]> {
    const rows = await this.bench.sql.query<{ pair: string }>(
      `select c.message || ', ' || x.message as pair from build b join commit c on c.id = b.commit_id
         join recipe r on r.digest = b.recipe join commit x on x.hash = r.with_hash and x.repo = r.with_repo
       where b.state <> 'ended' order by b.id`,
    );
    return rows.map(({ pair }) => pair);
  }

  /** What waits ends so, and everything is looked at. */
  async end(outcome: "success" | "failure"): Promise<void> {
    await this.bench.sql.query(
      `with b as (
         update build set state = 'ended', outcome = $1, started_at = now(), ended_at = now() where state <> 'ended' returning id
       )
       update attempt set state = 'ended', outcome = $1, started_at = now(), ended_at = now() from b where build_id = b.id`,
      [outcome],
    );
    const bus = { publish: () => {}, subscribe: () => {} };
    const deps = { sql: this.bench.sql, bus, clock: systemClock, log: quiet, config: () => FARM };
    await look(deps, "everything");
  }

  /** Ends the pair of heads, which is red, and whatever is built to narrow, one after the other, as `red` has it; the pairs that were built, in order. */
  async narrow(red: (app: number, go: number) => boolean): Promise<string[]> {
    const built: string[] = [];
    await this.end("failure");
    for (;;) {
      const [pair, ...more] = await this.waiting();
      expect(more).toEqual([]);
      if (pair === undefined) return built.toSorted();
      built.push(pair);
      const [own = 0, other = 0] = pair.split(", ").map((name) => Number(name.split(" ")[1]));
      await this.end(red(own, other) ? "failure" : "success");
    }
  }

  standing(): Promise<unknown[]> {
    return this.bench.sql.query(
      `select s.kind, r.repo, r.message as red, g.message as green, s.between
       from standing s join commit r on r.id = s.red_commit left join commit g on g.id = s.green_commit`,
    );
  }
}

test("the other repository moved alone: its commits are built with the same one of ours, and its culprit is named", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  await story.push(0, 6);
  expect(await story.narrow((_, go) => go >= 5)).toEqual(["app 1, go 4", "app 1, go 5", "app 1, go 6"]);
  expect(await story.standing()).toEqual([{ kind: "commit", repo: "go", red: "go 5", green: "go 4", between: 0 }]);
});

test("ours moved alone: it is narrowed like any other", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  await story.push(5, 0);
  expect(await story.narrow((app) => app >= 3)).toEqual(["app 2, go 1", "app 3, go 1", "app 4, go 1"]);
  expect(await story.standing()).toEqual([{ kind: "commit", repo: "app", red: "app 3", green: "app 2", between: 0 }]);
});

test("both moved, and ours did it: the last green commit is green with the new one too, and ours are narrowed with that", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  await story.push(3, 3);
  expect(await story.narrow((app) => app >= 3)).toEqual(["app 1, go 4", "app 2, go 4", "app 3, go 4"]);
  expect(await story.standing()).toEqual([{ kind: "commit", repo: "app", red: "app 3", green: "app 2", between: 0 }]);
});

test("both moved, and the other one did it: the last green commit is red with the new one, and the other's commits are narrowed with it", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  await story.push(3, 3);
  expect(await story.narrow((_, go) => go >= 3)).toEqual(["app 1, go 2", "app 1, go 3", "app 1, go 4"]);
  expect(await story.standing()).toEqual([{ kind: "commit", repo: "go", red: "go 3", green: "go 2", between: 0 }]);
});

test("a newer commit of the other repository does not take back what narrows, and what is known is used again", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  await story.push(0, 6);
  await story.end("failure");
  expect(await story.waiting()).toEqual(["app 1, go 4"]);
  await story.go.commit("go 8");
  bench.source.poke("go");
  await expect.poll(() => story.waiting(), SLOW).toEqual(["app 1, go 4", "app 1, go 8"]);
});
