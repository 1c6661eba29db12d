/** Who broke a pair, in two real git repositories: its own commit, or one of the repository that it is tested with. */
import { expect, test } from "vitest";
import { Bench } from "../source/testing/bench.ts";
import { TestRepository } from "../source/testing/repository.ts";
import { systemClock } from "../store/system-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { look } from "./narrowing.ts";
import { planFound } from "./plan-found.ts";
import { HOST, PAIR_FARM } from "./testing/pair-farm.ts";

/** How long git and the farm may take on a busy machine. */
const SLOW = { timeout: 20_000 };

type Red = (app: number, go: number) => boolean;

/** Two repositories that begin with one commit each, `app 1` and `go 1`, whose pair is green. */
class Story {
  readonly bench: Bench;
  readonly app: TestRepository;
  readonly go: TestRepository;
  /** How many commits the two repositories have. */
  #own = 1;
  #other = 1;

  private constructor(bench: Bench, app: TestRepository, go: TestRepository) {
    this.bench = bench;
    this.app = app;
    this.go = go;
  }

  static async begin(bench: Bench): Promise<Story> {
    await addHostType(bench.sql, HOST);
    bench.planned = (tx, found) =>
      planFound(tx, PAIR_FARM, { ...found, commits: found.commits.slice(0, 1) }, systemClock.now());
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

  /**
   * Adds so many commits, and tells the farm at once. The pair of heads is planned. Other pairs that were planned on
   * the way are canceled.
   */
  async push(own: number, other: number): Promise<void> {
    const { bench } = this;
    for (let i = 0; i < other; i++) await this.go.commit(`go ${++this.#other}`);
    for (let i = 0; i < own; i++) await this.app.commit(`app ${++this.#own}`);
    const head = `app ${this.#own}, go ${this.#other}`;
    bench.source.poke("go");
    bench.source.poke("app");
    await expect.poll(() => this.waiting(), SLOW).toContain(head);
    await bench.sql.query(
      `update build b set state = 'ended', outcome = 'canceled', ended_at = now() from commit c, recipe r
       where c.id = b.commit_id and r.digest = b.recipe and b.state <> 'ended' and not b.narrows and (c.message, r.with_hash)
         is distinct from ($1, (select hash from commit where message = $2))`,
      head.split(", "),
    );
  }

  /** The pair of each build that waits, as "app 2, go 1". */
  async waiting(): Promise<string[]> {
    const rows = await this.bench.sql.query<{ pair: string }>(
      `select c.message || ', ' || x.message as pair from build b join commit c on c.id = b.commit_id
         join recipe r on r.digest = b.recipe join commit x on x.hash = r.with_hash and x.repo = r.with_repo
       where b.state <> 'ended' order by b.id`,
    );
    return rows.map(({ pair }) => pair);
  }

  /** Ends the builds that wait, and looks at everything. `narrows`: only those that narrow, or only the others. */
  async end(outcome: "success" | "failure", narrows?: boolean): Promise<void> {
    await this.bench.sql.query(
      `with b as (
         update build set state = 'ended', outcome = $1, started_at = now(), ended_at = now()
         where state <> 'ended' and ($2::boolean is null or narrows = $2) returning id
       )
       update attempt set state = 'ended', outcome = $1, started_at = now(), ended_at = now() from b where build_id = b.id`,
      [outcome, narrows ?? null],
    );
    const bus = { publish: () => {}, subscribe: () => {} };
    const deps = { sql: this.bench.sql, bus, clock: systemClock, log: quiet, config: () => PAIR_FARM };
    await look(deps, "everything");
  }

  /**
   * Ends the pair of heads, which is red, and then all builds that narrow, one after the other, as `red` says. Returns
   * the pairs that were built, sorted.
   */
  async narrow(red: Red): Promise<string[]> {
    const built: string[] = [];
    await this.end("failure");
    for (;;) {
      const pair = await this.step(red);
      if (pair === undefined) return built.toSorted();
      built.push(pair);
    }
  }

  /** Ends the one build that waits as `red` says, and returns its pair. Undefined: no build waits. */
  async step(red: Red): Promise<string | undefined> {
    const [pair, ...more] = await this.waiting();
    expect(more).toEqual([]);
    if (pair === undefined) return undefined;
    const [own = 0, other = 0] = pair.split(", ").map((name) => Number(name.split(" ")[1]));
    await this.end(red(own, other) ? "failure" : "success");
    return pair;
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

test("a commit that is red with an older one of the other repository is not accused of it: what is red must be red with the one in force", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  const red: Red = (app, go) => go === 2 || app === 3; // go 3 mends go 2, and app 3 breaks by itself
  await story.push(1, 1);
  await story.end("failure");
  await story.push(1, 1);
  await story.end("failure", false);
  expect(await story.waiting()).toEqual(["app 1, go 2"]); // what was begun
  const built: string[] = [];
  for (const named of ["go 2", "go 2", "app 3"]) {
    built.push((await story.step(red)) ?? "");
    expect(await story.standing()).toMatchObject([{ kind: "commit", red: named }]);
  }
  expect(built).toEqual(["app 1, go 2", "app 1, go 3", "app 2, go 3"]);
  expect(await story.step(red)).toBeUndefined();
});

test("while the other repository moves a range gets smaller all the same, by one build at a time, and the culprit that is named stays so", async () => {
  await using bench = await Bench.make();
  const story = await Story.begin(bench);
  const red: Red = (app) => app >= 4;
  await story.push(8, 0);
  await story.end("failure");
  const built: string[] = [];
  const standings: unknown[] = [];
  for (let moves = 0; moves < 6; moves++) {
    await story.push(0, 1);
    await story.end("failure", false);
    built.push((await story.step(red)) ?? "");
    standings.push(...(await story.standing()));
  }
  expect(built).toEqual(["app 5, go 1", "app 3, go 1", "app 4, go 1", "app 3, go 4", "app 4, go 4", "app 3, go 6"]);
  const named = { kind: "commit", red: "app 4", green: "app 3", between: 0 };
  expect(standings).toMatchObject([{ kind: "range", between: 3 }, { between: 1 }, named, named, named, named]);
  const rest = [await story.step(red), await story.step(red), await story.step(red), await story.step(red)];
  expect(rest).toEqual(["app 4, go 6", "app 3, go 7", "app 4, go 7", undefined]);
  expect(await story.standing()).toMatchObject([named]);
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
