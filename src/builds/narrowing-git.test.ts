/** Who broke it, in a real git repository: a line is its first parents, whatever was merged into them. */
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
  repos: [{ name: "app", url: "origin", depth: 1 }],
  hosts: [{ hostType: HOST, trust: "team" }],
  builders: [{ name: "linux-amd64", host: HOST, steps: ["make"] }],
});

function everything({ sql }: Bench): Promise<void> {
  const bus = { publish: () => {}, subscribe: () => {} };
  return look({ sql, bus, clock: systemClock, log: quiet, config: () => FARM }, "everything");
}

/** `one`, `two`, a merge of `side 1` and `side 2`, `three`; the first is green, the last red. The farm is told of the rest in one push. */
async function merged(bench: Bench) {
  const { sql } = bench;
  await addHostType(sql, HOST);
  bench.planned = (tx, found) =>
    planFound(tx, FARM, { ...found, commits: found.commits.slice(0, 1) }, systemClock.now());
  const repo = await TestRepository.init(`${bench.folder}/origin`);
  await repo.commit("one");
  await bench.open([{ name: "app", url: "origin" }]);
  const end = async (message: string, outcome: string): Promise<void> => {
    const ended = await sql.query(
      `with b as (
         update build set state = 'ended', outcome = $2, started_at = now(), ended_at = now() from commit c
         where c.id = commit_id and c.message = $1 and state <> 'ended' returning build.id
       )
       update attempt set state = 'ended', outcome = $2, started_at = now(), ended_at = now() from b where build_id = b.id returning b.id`,
      [message, outcome],
    );
    expect([message, ended.length]).toEqual([message, 1]);
    await everything(bench);
  };
  await end("one", "success");
  await repo.git("checkout", "-q", "-b", "side");
  await repo.commit("side 1");
  await repo.commit("side 2");
  await repo.git("checkout", "-q", "main");
  await repo.commit("two");
  await repo.git("merge", "-q", "--no-ff", "-m", "merge", "side");
  await repo.commit("three");
  await bench.look();
  await end("three", "failure");
  /** Ends each build that narrows as it is told, one after the other, and says of which commits they were. */
  const narrow = async (outcomes: Readonly<Record<string, string>>): Promise<string[]> => {
    const built: string[] = [];
    for (;;) {
      const [open] = await sql.query<{ message: string }>(
        "select c.message from build b join commit c on c.id = b.commit_id where b.state <> 'ended'",
      );
      if (!open) return built.toSorted();
      built.push(open.message);
      await end(open.message, outcomes[open.message] ?? "");
    }
  };
  const standing = () =>
    sql.query(
      `select s.kind, r.message as red, g.message as green, s.between
       from standing s join commit r on r.id = s.red_commit left join commit g on g.id = s.green_commit`,
    );
  return { repo, narrow, standing };
}

test("a merge is one step: what it brought is not built, and the merge is the culprit when its first parent is green", async () => {
  await using bench = await Bench.make();
  const { narrow, standing } = await merged(bench);
  expect(await bench.history()).toEqual({ main: ["three", "merge", "two", "one"] });
  expect(await standing()).toEqual([{ kind: "range", red: "three", green: "one", between: 2 }]);
  expect(await narrow({ two: "success", merge: "failure" })).toEqual(["merge", "two"]);
  expect(await standing()).toEqual([{ kind: "commit", red: "merge", green: "two", between: 0 }]);
});

test("a branch that was deleted is not red any more, and what was wanted for its sake is taken back", async () => {
  await using bench = await Bench.make();
  const { repo, standing } = await merged(bench);
  const open = () => bench.sql.query("select outcome from build where narrows order by id");
  expect([await standing(), await open()]).toMatchObject([[{ kind: "range" }], [{ outcome: null }]]);
  await repo.git("checkout", "-q", "side");
  await repo.git("branch", "-q", "-D", "main");
  await bench.look();
  expect(await standing()).toEqual([]);
  await everything(bench);
  expect([await standing(), await open()]).toEqual([[], [{ outcome: "skipped" }]]);
  await everything(bench);
  expect(await open()).toEqual([{ outcome: "skipped" }]);
});

test("what waits for the sake of a branch that is deleted is taken back, unless another one has its commit or somebody asked for it; pushed again, its head is built", async () => {
  await using bench = await Bench.make();
  const { sql } = bench;
  await addHostType(sql, HOST);
  bench.planned = (tx, found) => planFound(tx, FARM, found, systemClock.now());
  const repo = await TestRepository.init(`${bench.folder}/origin`);
  await repo.commit("main 1");
  await repo.git("checkout", "-q", "-b", "side");
  for (const message of ["side 1", "side 2", "side 3"]) await repo.commit(message);
  await repo.git("branch", "-q", "kept", "side~2");
  await repo.git("checkout", "-q", "main");
  await bench.open([{ name: "app", url: "origin", branches: "*" }]);
  const asked = "update build set requested_by = 'ann' from commit c where c.id = commit_id and c.message = 'side 2'";
  await sql.query(asked);
  const builds = () =>
    sql.query<{ message: string; outcome: string | null; reason: string | null }>(
      "select c.message, b.outcome, b.reason from build b join commit c on c.id = b.commit_id order by c.message, b.id",
    );
  const waits = { outcome: null, reason: null };
  const before = ["main 1", "side 1", "side 2"].map((message) => ({ message, ...waits }));
  expect(await builds()).toEqual([...before, { message: "side 3", ...waits }]);

  await repo.git("branch", "-q", "-m", "side", "hidden/side");
  await bench.look();
  const reason = 'branch "side" of app was deleted before it began';
  const skipped = { message: "side 3", outcome: "skipped", reason };
  expect(await builds()).toEqual([...before, skipped]);

  await repo.git("branch", "-q", "-m", "hidden/side", "side");
  await bench.look();
  expect(await builds()).toEqual([...before, skipped, { message: "side 3", ...waits }]);
});

test.each([
  ["two", "one", { two: "failure", merge: "failure" }],
  ["three", "merge", { two: "success", merge: "success" }],
] as const)("%s, beside a merge, is the culprit when it is, and the merge is not", async (red, green, outcomes) => {
  await using bench = await Bench.make();
  const { narrow, standing } = await merged(bench);
  await narrow(outcomes);
  expect(await standing()).toEqual([{ kind: "commit", red, green, between: 0 }]);
});
