/** Pages of builds that are of a pair: a commit, and the one of another repository that it was tested with. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { insertBuilds } from "../store/builds.ts";
import { addCommit, addHostType, NOON, testRecipe } from "../store/testing/farm.ts";
import type { Envelope } from "../ui/page.tsx";
import { type TestWeb, testWeb } from "./testing/web.ts";

const HOST = "host-linux-amd64-x";
const [NET, OLD] = ["a".repeat(40), "b".repeat(40)];
const [TIP, BEFORE, RELEASE] = ["1".repeat(40), "2".repeat(40), "3".repeat(40)];

let web: TestWeb;
/** Of `pair()`, in the order of planning. */
const ids: number[] = [];

/** A build of `commit` with `hash` of `branch`, that ended with `outcome`; running without one. */
async function pair(commit: number, branch: string, hash: string, outcome?: string): Promise<void> {
  const { sql } = web.database;
  const recipe = { ...testRecipe("linux-amd64-mod", HOST), with: { repo: "go", branch, hash } };
  const plan = {
    repo: "net",
    commitId: commit,
    branch: "master",
    head: true,
    recipe,
    provenance: "submitted",
  } as const;
  const [build] = await insertBuilds(sql, [{ ...plan, class: "post-submit", rank: 0, starvesAt: NOON }], NOON);
  const ended =
    outcome === undefined ? "state = 'running'" : `state = 'ended', outcome = '${outcome}', ended_at = now()`;
  await sql.query(`update build set started_at = now(), ${ended} where id = $1`, [build?.id]);
  ids.push(build?.id ?? 0);
}

beforeAll(async () => {
  web = await testWeb({ clock: new FakeClock(), empty: true });
  const { sql } = web.database;
  await addHostType(sql, HOST);
  const [older, newer] = [await addCommit(sql, "net", OLD), await addCommit(sql, "net", NET)];
  await sql.query("insert into branch (repo, name, head, moved_at) values ('net', 'master', $1, now())", [NET]);
  await sql.query(
    "insert into branch_commit (repo, branch, position, commit_id) values ('net', 'master', 1, $1), ('net', 'master', 2, $2)",
    [older, newer],
  );
  await pair(older, "master", BEFORE, "success");
  await pair(newer, "master", BEFORE, "failure");
  await pair(newer, "master", TIP, "success");
  await pair(newer, "release-branch.go1.22", RELEASE);
  web.config = checkFarm({
    repos: ["net", "go"].map((name) => ({ name, url: "." })),
    hosts: [{ hostType: HOST }],
    builders: [
      {
        name: "linux-amd64-mod", host: HOST, repos: "net", steps: ["x"], against: { repo: "go" },
        sources: [{ dir: "net", commit: "own" }, { dir: "go", commit: "other" }],
      },
    ],
  }); // biome-ignore format: one glance
});
afterAll(() => web[Symbol.asyncDispose]());

async function json(path: string): Promise<unknown> {
  const response = await web.get(path);
  expect(response.status).toBe(200);
  return response.json();
}

test("[coordinator 76] a running build of a pair has the commit of its own repository as commit, and the other one as goCommit", async () => {
  expect(await json("/status/post-submit-active.json")).toEqual([
    { builder: "linux-amd64-mod", commit: NET, goCommit: RELEASE, statusURL: `http://farm.test/b/${ids[3]}` },
  ]);
});

test("the grid has a row per commit and branch of the other repository, with the newest commit of that which was tested", async () => {
  const { revisions } = (await json("/p/net?mode=json")) as { revisions: Record<string, unknown>[] };
  const told = revisions.map((one) => [one.revision, one.goRevision, one.goBranch, one.statuses]);
  expect(told).toEqual([
    [NET, TIP, "master", ["success"]],
    [NET, RELEASE, "release-branch.go1.22", ["running"]],
    [OLD, BEFORE, "master", ["success"]],
  ]);
  const html = await (await web.get("/p/net")).text();
  const rows = [...html.matchAll(/<tr id=(c[\w-]+)/g)].map(([, id]) => id);
  expect([rows.length, new Set(rows).size]).toEqual([3, 3]);
  expect(html).toContain("<bdi>go</bdi> 11111111 <bdi>master</bdi>");
  // A pair that failed before with another commit of the other repository does not make this one flaky.
  expect(html).toContain('aria-label="success for 2 commits"');
});

test("a build's page and a commit's page say what was tested with what", async () => {
  const build = (await json(`/b/${ids[1]}?format=json`)) as Envelope;
  expect(build.page).toMatchObject({
    data: {
      build: { hash: NET, other: { repo: "go", branch: "master", hash: BEFORE } },
      earlier: [{ build: ids[2] }, { build: ids[0] }],
      elsewhere: [
        { build: ids[2], label: "linux-amd64-mod with go 11111111" },
        { build: ids[3], label: "linux-amd64-mod with go 33333333" },
      ],
    },
  });
  const page = await (await web.get(`/b/${ids[1]}`)).text();
  expect(page).toContain(`href="/p/go/${BEFORE}"`);
  const commit = await (await web.get(`/p/net/${NET}`)).text();
  expect(commit).toContain(`href="/p/go/${TIP}"`);
  expect(commit).toContain(`href="/p/go/${RELEASE}"`);
});
