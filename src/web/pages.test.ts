/** Pages as they leave the server, from a real database: what they say, what scripts get, and what they do with hostile text. */
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { lendCommands } from "../ui/lend.tsx";
import type { Envelope } from "../ui/page.tsx";
import { SECURITY } from "./http.ts";
import { LONG, MARKUP } from "./testing/seed-config.ts";
import { seedTests } from "./testing/seed-tests.ts";
import { type TestWeb, testWeb } from "./testing/web.ts";

let web: TestWeb;
beforeAll(async () => {
  web = await testWeb({ clock: new FakeClock() });
});
afterAll(() => web[Symbol.asyncDispose]());

async function page(path: string): Promise<string> {
  const response = await web.get(path);
  expect(response.status).toBe(200);
  return response.text();
}

async function data(path: string): Promise<Envelope> {
  const response = await web.get(`${path}${path.includes("?") ? "&" : "?"}format=json`);
  expect(response.status).toBe(200);
  return (await response.json()) as Envelope;
}

/** The text of a page as a reader sees it. */
function plainText(html: string): string {
  return html
    .replace(/<script[\s\S]*?<\/script>/g, "")
    .replace(/<[^>]+>/g, "")
    .replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
    .replaceAll("&lt;", "<")
    .replaceAll("&amp;", "&")
    .replaceAll("&quot;", '"');
}

const everyPage = (): string[] => {
  const s = web.seeded;
  return [
    "/",
    "/builders",
    "/p/app",
    `/p/app/${s.hashes[1]}`,
    `/b/${s.failed}`,
    `/b/${s.running}`,
    `/b/${s.waiting}`,
    `/b/${s.retried}`,
    `/b/${s.skipped}`,
    `/p/app/${s.hashes[3]}`,
    "/machines",
    "/machines/riverboard",
    "/queues",
    "/status",
    "/search?q=%3Cscript%3E",
    "/login",
  ];
};

describe("every page", () => {
  test("is whole HTML under a strict policy, without inline script, style or handler", async () => {
    for (const path of everyPage()) {
      const response = await web.get(path);
      const html = await response.text();
      expect([path, response.status, html.startsWith("<!doctype html>"), html.endsWith("</html>")]).toEqual([
        path,
        200,
        true,
        true,
      ]);
      for (const [name, value] of Object.entries(SECURITY)) expect(response.headers.get(name)).toBe(value);
      const outside = html.replace(/<script type="application\/json"[\s\S]*?<\/script>/, "");
      expect([
        path,
        /<[^>]+ style=/.exec(outside),
        /<[^>]+ on[a-z]+=/.exec(outside.replace(/"[^"]*"/g, '""')),
        /<script(?! type="module" src=)/.exec(outside),
      ]).toEqual([path, null, null, null]);
    }
  });

  test("shows text of others as text: no markup of theirs, no turn of direction", async () => {
    for (const path of everyPage()) {
      const html = await page(path);
      expect([path, html.includes("<script>alert"), html.includes("\u202e")]).toEqual([path, false, false]);
    }
    expect(plainText(await page(`/b/${web.seeded.failed}`))).toContain(
      `<script>alert(1)</script> "quoted" 'and' & ⟨U+202E⟩gnp.exe שלום 🚜`,
    );
  });

  test("has a link to its JSON, which is the same data", async () => {
    // The grid's JSON is for scripts, in the shape of upstream's dashboard.
    for (const path of everyPage().filter((one) => one !== "/p/app")) {
      const envelope = await data(path);
      expect([path, envelope.frame.path, typeof envelope.page.name]).toEqual([path, path, "string"]);
    }
  });

  test("carries the banners", async () => {
    web.banners.push({
      summary: "The configuration has mistakes",
      detail: "builders[0].host: no such host\nrepos: none",
    });
    for (const path of everyPage())
      expect(plainText(await page(path))).toContain("mistakesbuilders[0].host: no such host\nrepos: none");
    web.banners.length = 0;
  });
});

test("[coordinator 75] /try.json answers 404 with success:false for an unknown commit, CORS for all, and OPTIONS with an empty 200", async () => {
  const unknown = await web.get("/try.json?commit=unknown");
  expect([unknown.status, unknown.headers.get("access-control-allow-origin"), await unknown.json()]).toEqual([
    404,
    "*",
    { success: false, error: 'try set "unknown" not found' },
  ]);
  const options = await web.get("/try.json", { method: "OPTIONS" });
  expect([options.status, options.headers.get("access-control-allow-origin"), await options.text()]).toEqual([
    200,
    "*",
    "",
  ]);
});

test("[coordinator 76] /status/post-submit-active.json lists builds that have a machine, with the commit of their own repository", async () => {
  const active = (await (await web.get("/status/post-submit-active.json")).json()) as unknown[];
  expect(active).toHaveLength(3);
  expect(active[0]).toEqual({
    builder: "linux-riscv64",
    commit: web.seeded.hashes[0],
    statusURL: `http://farm.test/b/${web.seeded.running}`,
  });
});

test("[coordinator 77] with 2 expected and one connected and idle, / says 0/1 (1 missing) and has one machine in detail", async () => {
  await using small = await testWeb({ clock: new FakeClock(), empty: true });
  const { sql } = small.database;
  await sql.query("delete from session");
  await sql.query("update host_type set configured = false");
  await sql.query(
    "insert into host_type (name, trust, expect, configured) values ('host-linux-amd64-two', 'team', 2, true)",
  );
  const { seeded } = small;
  await sql.query(
    `with m as (insert into machine (host_type, name, first_seen_at, last_seen_at, agent, version, address)
       values ('host-linux-amd64-two', 'only', $1, $1, 'original', 30, '192.0.2.7:1234') returning id)
     insert into session (id, machine_id, coordinator_id, address, opened_at) select 'aa', id, 'P000000001', '192.0.2.7:1234', $1 from m`,
    [new Date(new FakeClock().now() - 3 * 86_400_000 - 4 * 3_600_000)],
  );
  expect(seeded.hashes).toEqual([]);
  const html = plainText(await (await small.get("/")).text());
  const pools = html.slice(html.indexOf("Reverse pool summary"));
  expect(pools).toContain("host-linux-amd64-two: 0/1 (1 missing)");
  expect(pools).toContain(
    "Reverse pool machine detailonly (192.0.2.7:1234) version 30, host-linux-amd64-two: connected 3d 4h, idle for 3d 4hHealth",
  );
});

test("[coordinator 78] /status/ID is 500 with the line for an error, 200 ok when there are no lines, 404 for an unknown checker", async () => {
  web.checks.push(
    {
      id: "gitmirror",
      title: "Git mirrors",
      notes: "https://example.org/n",
      lines: [
        { level: "warn", text: "slow" },
        { level: "error", text: "app: does\nnot answer" },
      ],
    },
    { id: "db", title: "Database", lines: [] },
    { id: "pool", title: "Pool", lines: [{ level: "warn", text: "pinecone missing" }] },
  );
  const got = async (id: string): Promise<unknown> => {
    const response = await web.get(`/status/${id}`, { headers: { accept: "text/plain" } });
    return [response.status, response.headers.get("content-type"), await response.text()];
  };
  const text = "text/plain; charset=utf-8";
  expect(await got("gitmirror")).toEqual([
    500,
    text,
    "# gitmirror: Git mirrors\n# https://example.org/n\nWarn: slow\nError: app: does not answer\n",
  ]);
  expect(await got("db")).toEqual([200, text, "ok\n"]);
  expect(await got("pool")).toEqual([200, text, "# pool: Pool\nWarn: pinecone missing\n"]);
  expect((await web.get("/status/none")).status).toBe(404);
  expect((await data("/")).frame.health).toBe("error");
  web.checks.length = 0;
});

test("/ says what runs, what waits and why, and what ended", async () => {
  const { page: home } = await data("/");
  if (home.name !== "home") throw new Error(home.name);
  expect(home.data.numbers).toMatchObject({
    machines: 7,
    idle: 2,
    busy: 3,
    drained: 1,
    missing: 6,
    running: 3,
    waiting: 2,
  });
  expect(home.data.running.map((b) => [b.builder, b.step, b.machine?.name])).toEqual([
    ["linux-riscv64", "test", "riverboard"],
    ["darwin-arm64", "test", "macmini"],
    ["linux-amd64", "test", "shed-1"],
  ]);
  const html = plainText(await page("/"));
  expect(html).toMatch(/next in line: macmini is busy with #\d+, about \d+ (s|min)/);
  expect(html).toContain("its only machine is drained");
});

test("/ of a new farm gives the command that adds a machine", async () => {
  await using empty = await testWeb({ clock: new FakeClock(), empty: true });
  await empty.database.sql.query("delete from machine_change");
  await empty.database.sql.query("delete from session");
  await empty.database.sql.query("delete from machine");
  for (const path of ["/", "/machines"])
    expect(plainText(await (await empty.get(path)).text())).toContain(
      lendCommands("farm.test:8119", "host-linux-amd64-shed", "NAME").join("\n"),
    );
  for (const path of ["/p/app", "/machines", "/queues", "/builders", "/search?q=nothing"])
    expect((await empty.get(path)).status).toBe(200);
});

test("/b/ID answers first: the sentence, since when, and the lines that say why", async () => {
  const html = plainText(await page(`/b/${web.seeded.failed}`));
  expect(html).toContain("linux-amd64 failed in “test” after 3m 06s");
  expect(html).toMatch(/red since [0-9a-f]{8} Fix the parser, part 26 by A\. Author \(green before at [0-9a-f]{8}\)/);
  expect(html).toContain("1291parser_test.c:41: error: expected 3, got 4");
  expect(await page(`/b/${web.seeded.failed}`)).toMatch(/<summary>Reproduce “test” by hand.*checkout --detach/s);
  const { page: build } = await data(`/b/${web.seeded.failed}`);
  if (build.name !== "build") throw new Error(build.name);
  expect(build.data.why?.lines.filter((l) => l.marked).map((l) => l.line)).toEqual([1291, 1295]);
  expect(build.data.steps.map((s) => [s.name, s.status, s.exit])).toEqual([
    ["source", "success", "ok"],
    ["make", "success", "ok"],
    ["test", "failure", "exit status 2"],
  ]);
  expect(build.data.log).toMatchObject({ base: `/b/${web.seeded.failed}/test`, total: 1296, from: 1197 });
  expect(build.data.earlier.length).toBeGreaterThan(10);
  expect(build.data.elsewhere.map((m) => m.label)).toContain("darwin-arm64");
});

test("/b/ID of a build whose machine is gone says for whom it waits and for how long, and nothing of its usual time", async () => {
  const { sql } = web.database;
  const { running, machine } = web.seeded;
  const park = (until: string | null): Promise<unknown> =>
    sql.query("update lease set parked_until = $2 where id = (select lease_id from attempt where build_id = $1)", [
      running,
      until,
    ]);
  await park(new Date(new FakeClock().now() + 3.5 * 60_000).toISOString());
  const html = plainText(await page(`/b/${running}`));
  expect(html).toContain(`waits for ${machine.name} to come back (up to 4 more minutes)`);
  expect(html).not.toMatch(/usual time|is running/);
  await park(null);
});

test("/p/REPO for a branch that is not there says so, and which one it shows", async () => {
  expect(plainText(await page("/p/app?branch=gone"))).toContain(
    "There is no branch gone, or none any more. This is main.",
  );
  for (const path of ["/p/app", "/p/app?branch=", "/p/app?branch=main"]) {
    expect(plainText(await page(path))).not.toContain("There is no branch");
  }
});

test("/b/ID of a build whose machine is gone says that others run its tests; /queues whom a helper is wanted for", async () => {
  const { sql } = web.database;
  const { running } = web.seeded;
  const [{ lease = 0, machine = 0 } = {}] = await sql.query<{ lease: number; machine: number }>(
    "select lease_id as lease, machine_id as machine from attempt where build_id = $1",
    [running],
  );
  const [{ log = 0 } = {}] = await sql.query<{ log: number }>("select id as log from log order by id limit 1");
  await seedTests(sql, running, machine, log);
  await sql.query("update lease set parked_until = now() + interval '1 hour' where id = $1", [lease]);
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at, state, machine_id)
       select 'helper', class, queue, flow, repo, provenance, rank, wanted_at, starves_at, s.state,
         case s.state when 'held' then (select id from machine where id <> $2 limit 1) end
       from lease, (values ('held'), ('wanted')) s (state) where id = $1 returning id, state, machine_id
     ), h as (
       insert into helper (lease_id, build_id) select id, $3 from l
     )
     insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, started_at)
     select $3, id, machine_id, $4, '{6}', 'n', now() from l where state = 'held'`,
    [lease, machine, running, log],
  );
  const html = plainText(await page(`/b/${running}`));
  expect(html).toMatch(/is running “[a-z]+” 249\/250 on other machines; \S+ may come back/);
  const queues = await page("/queues");
  expect(plainText(queues)).toContain(`helper #${running}`);
  expect(queues).toContain(`<a href="/b/${running}" class="open"`);
  await sql.query(
    `with h as (delete from helper where build_id = $1 returning lease_id), g as (delete from test_group where build_id = $1),
       t as (delete from test where build_id = $1), r as (delete from test_run where build_id = $1)
     update lease set state = 'ended' from h where lease.id = h.lease_id`,
    [running],
  );
  await sql.query("update lease set parked_until = null where id = $1", [lease]);
});

test("/b/ID of a build whose last test is for another machine says which one it waits with, and how long at most", async () => {
  const { sql } = web.database;
  const { running } = web.seeded;
  const until = new Date(new FakeClock().now() + 41_000).toISOString();
  await sql.query(
    `with r as (
       insert into test_run (build_id, listed_at, total, waiting, known_ms, unknown) values ($1, now(), 2, 1, 0, 1)
     )
     insert into test (build_id, number, name, state, outcome, failures, avoid, avoid_until)
     values ($1, 1, 't 1', 'ended', 'success', 0, null, null), ($1, 2, 't 7', 'waiting', null, 1, 1, $2)`,
    [running, until],
  );
  expect(plainText(await page(`/b/${running}`))).toContain(
    "waits for another machine to run “t 7” once more (up to 50 more seconds)",
  );
  await sql.query("update test set state = 'running' where build_id = $1 and number = 2", [running]);
  await sql.query("update test_run set waiting = 0, running = 1 where build_id = $1", [running]);
  expect(plainText(await page(`/b/${running}`))).toMatch(/is running “[a-z]+” 1\/2 for/);
  await sql.query(
    "with t as (delete from test where build_id = $1), r as (delete from test_run where build_id = $1) select 1",
    [running],
  );
});

test("/b/ID says what became of the snapshot of the attempt that is shown", async () => {
  const { sql } = web.database;
  const note = "not kept: packed it is larger than the limit of 3 MiB (snapshot.limit of the builder)";
  await sql.query("update attempt set snapshot_note = $2 where build_id = $1 and number = 2", [
    web.seeded.retried,
    note,
  ]);
  expect(await page(`/b/${web.seeded.retried}`)).toContain(`title="snapshot ${note}"`);
  expect(await page(`/b/${web.seeded.retried}?attempt=1`)).not.toContain("snapshot not kept");
  await sql.query("update attempt set snapshot_note = null", []);
});

test("the culprit is named in the grid, on its own page and on the front page, and scripts get it too", async () => {
  const culprit = web.seeded.hashes[3] ?? "";
  const before = web.seeded.hashes[4] ?? "";
  const sentence = `red since ${culprit.slice(0, 8)} Fix the parser, part 26 by A. Author, green before at ${before.slice(0, 8)}`;
  const grid = await page("/p/app");
  expect(grid).toContain(`title="failure for 3 commits, ${sentence}"`);
  expect(grid.match(/title="broke [^"]*"/g)).toEqual(['title="broke linux-amd64"']);
  expect(await page("/p/app?builders=linux-386")).not.toContain("broke");
  expect(await (await web.get("/p/app?format=json")).json()).toMatchObject({
    red: [{ builder: "linux-amd64", kind: "commit", revision: culprit, green: before, between: 0 }],
  });
  expect(plainText(await page(`/p/app/${culprit}`))).toMatch(/broke ([\w-]+, )*linux-amd64/);
  const home = plainText(await page("/"));
  expect(home).toMatch(new RegExp(`New failures.*linux-amd64${culprit.slice(0, 8)} ?Fix the parser, part 26`, "s"));
  expect((await data("/")).topics).toContain("standing:");
  expect((await data(`/b/${web.seeded.failed}`)).topics).toContain("standing:app");
});

test("each failing test says since which commit it fails, the grid and the commit's page which tests it broke", async () => {
  const { sql } = web.database;
  const [, last = "", second = "", first = ""] = web.seeded.hashes;
  const own = async (hash: string): Promise<number> => {
    const [row] = await sql.query<{ id: number }>(
      "select b.id from build b join commit c on c.id = b.commit_id where c.hash = $1 and b.builder = 'linux-amd64'",
      [hash],
    );
    return row?.id ?? 0;
  };
  const tests = async (hash: string, outcomes: readonly string[]): Promise<void> => {
    await sql.query(
      `with r as (
         insert into test_run (build_id, listed_at, total, waiting, failed, known_ms, unknown, ended_at)
         select $1, now(), 3, 0, count(*) filter (where o = 'failure'), 0, 0, now() from unnest($2::text[]) o returning build_id
       )
       insert into test (build_id, number, name, state, outcome)
       select build_id, n, (array['lexer', '<b>parser</b>', 'new'])[n], 'ended', o from r, unnest($2::text[]) with ordinality as t (o, n)`,
      [await own(hash), outcomes],
    );
  };
  await tests(web.seeded.hashes[4] ?? "", ["success", "success"]);
  await tests(first, ["failure", "flaky"]);
  await tests(second, ["failure", "failure", "failure"]);
  await tests(last, ["failure", "failure", "failure"]);
  await sql.query(
    `insert into standing select repo, branch, builder, 1, 'b', kind, $1, (select commit_id from build where id = $1), red_build, red_commit, 0, changed_at
     from standing where builder = 'linux-amd64'`,
    [await own(second)],
  );
  await sql.query("update standing set test = 'lexer' where builder = 'linux-amd64' and place = 0");
  const { page: failed } = await data(`/b/${web.seeded.failed}`);
  if (failed.name !== "build") throw new Error(failed.name);
  const { since, tests: shown } = failed.data;
  expect(since).toMatchObject({ test: "lexer", kind: "commit", first: { hash: first }, merged: null });
  expect(shown?.failures.map((test) => [test.name, test.since?.kind, test.since?.first.hash])).toEqual([
    ["lexer", "commit", first],
    ["<b>parser</b>", "commit", second],
    ["new", "never green", second],
  ]);
  const said = plainText(await page(`/b/${web.seeded.failed}`));
  expect(said).toMatch(new RegExp(`lexer red since ${first.slice(0, 8)} Fix the parser, part 26 by A. Author`));
  expect(said).toContain(`since ${second.slice(0, 8)} `);
  expect(said).toContain("is not known to have passed before");
  expect((await page("/p/app")).match(/title="broke [^"]*"/g)).toEqual([
    'title="broke linux-amd64 (b)"',
    'title="broke linux-amd64 (lexer)"',
  ]);
  expect(plainText(await page(`/p/app/${first}`))).toMatch(/broke .*linux-amd64 \(lexer\)/);
  await sql.query("delete from standing where place = 1");
  await sql.query("update standing set test = null");
  await sql.query("delete from test");
  await sql.query("delete from test_run");
});

test("a range says how far it is and what runs for it, a changed configuration that it was that, a merge what it brought", async () => {
  await using other = await testWeb({
    clock: new FakeClock(),
    deps: {
      merged: async () => [
        { hash: "1".repeat(40), authorName: MARKUP, message: `${MARKUP}\n\nmore` },
        { hash: "2".repeat(40), authorName: "B", message: "two" },
      ],
    },
  });
  const { sql } = other.database;
  const { failed, hashes } = other.seeded;
  const line = async (): Promise<string> => plainText(await (await other.get(`/b/${failed}`)).text());
  const of = "builder = 'linux-amd64' and commit_id = (select id from commit where hash = $1)";
  await sql.query(`update commit set parents = parents || $2::text where hash = $1`, [hashes[3], hashes[9]]);
  expect(await line()).toContain("by A. Author, a merge of 2 commits (green before at");
  const merge = await (await other.get(`/p/app/${hashes[3]}`)).text();
  expect(plainText(merge)).toContain(`What it merged11111111 ${MARKUP}`);
  await sql.query(`update build set state = 'running', outcome = null, ended_at = null where ${of}`, [hashes[3]]);
  await sql.query(`update build set outcome = 'skipped' where ${of}`, [hashes[4]]);
  const [open] = await sql.query<{ id: number }>(`select id from build where ${of}`, [hashes[3]]);
  expect(await line()).toMatch(
    new RegExp(
      `red since ${hashes[2]?.slice(0, 8)} \\(green before at ${hashes[5]?.slice(0, 8)}, 2 commits between\\), looking for the culprit: #${open?.id}`,
    ),
  );
  await sql.query("insert into recipe (digest, body) select 'old', body from recipe");
  await sql.query(`update build set outcome = 'success', state = 'ended', recipe = 'old' where ${of}`, [hashes[3]]);
  await sql.query(
    `insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, narrows, created_at, ended_at)
     select repo, commit_id, branch, builder, host_type, 'r', provenance, class, 'ended', 'failure', true, created_at, created_at from build where ${of}`,
    [hashes[3]],
  );
  expect(await line()).toMatch(
    /red since the configuration changed, [0-9a-f]{8} \(green with what was before at [0-9a-f]{8}\)/,
  );
});

test("a skipped build says what overtook it, and its cell leads to it", async () => {
  const { skipped, hashes } = web.seeded;
  const html = plainText(await page(`/b/${skipped}`));
  expect(html).toContain("linux-386 was skipped");
  expect(html).toContain(`overtaken by ${hashes[4]?.slice(0, 8)} before it began`);
  expect(html).not.toContain("Attempts");
  expect(await page(`/b/${skipped}`)).toContain(`<a href="/p/app/${hashes[4]?.slice(0, 8)}" class="hash">`);
  expect(await page("/p/app")).toContain(`<td class=sk><a href=/b/${skipped} aria-label="skipped">·</a></td>`);
  const { page: home } = await data("/");
  if (home.name !== "home") throw new Error(home.name);
  expect(home.data.recent.map((build) => build.status)).not.toContain("skipped");
});

test("/b/ID of a retried build shows both attempts with the reason; each attempt and step has an address", async () => {
  const { retried } = web.seeded;
  const html = plainText(await page(`/b/${retried}`));
  expect(html).toContain("attempt 2");
  expect(html).toContain("the machine closed the connection");
  expect((await web.get(`/b/${retried}?attempt=1`)).status).toBe(200);
  expect((await web.get(`/b/${retried}/make`)).status).toBe(200);
  expect((await web.get(`/b/${retried}?attempt=3`)).status).toBe(404);
  expect((await web.get(`/b/${retried}/nosuch`)).status).toBe(404);
});

test("/b/ID of a waiting build says why it waits", async () => {
  expect(plainText(await page(`/b/${web.seeded.waiting}`))).toMatch(
    /darwin-arm64-longtest waits: next in line: macmini is busy with #\d+/,
  );
});

test("/machines lists connected machines first; filters; and one machine tells its story", async () => {
  const { page: list } = await data("/machines");
  if (list.name !== "machines") throw new Error(list.name);
  expect(list.data.machines.map((m) => m.mode)).toEqual(["busy", "drained", "idle", "busy", "idle", "busy", "away"]);
  expect(await page("/machines")).toContain("Of the last 24 hours: idle in 19, away in 5");
  const { page: filtered } = await data("/machines?q=RIVER");
  expect(filtered.name === "machines" && filtered.data.machines.map((m) => m.name)).toEqual(["riverboard"]);
  expect((await data("/machines?q=%25")).page).toMatchObject({ data: { total: 0 } }); // a percent sign is not a pattern
  const html = plainText(await page("/machines/riverboard"));
  for (const told of [
    "Connected for 2d 0h",
    "owner1@example.org",
    "community",
    "K000000001",
    "Debian 13",
    "no answer to 2 questions in a row whether it is there",
    "it closed the connection",
  ])
    expect(html).toContain(told);
  expect((await web.get(`/machines/${LONG}`)).status).toBe(200);
});

test("a machine that is set aside says why, until when and what its probe found; the lists say so too", async () => {
  const { sql } = web.database;
  const until = new Date("2026-11-25T02:25:00Z");
  await sql.query(
    `update machine set set_aside_at = now(), set_aside_until = $1, set_aside_reason = '3 attempts in a row failed on it; the last: machine gone',
       probed_at = now(), probe_error = 'emptying its work folder: disk full' where name = 'shed-2'`,
    [until],
  );
  const html = plainText(await page("/machines/shed-2"));
  expect(html).toContain(
    "3 attempts in a row failed on it; the last: machine gone. It gets no work until the farm has tried it and found it well",
  );
  expect(html).toMatch(/not before 2026-11-25 02:25/);
  expect(html).toContain("failed: emptying its work folder: disk full.");
  expect(html).not.toContain("Give it work again"); // that is the operator's
  const { page: list } = await data("/machines?q=shed-2");
  expect(list).toMatchObject({ data: { machines: [{ mode: "set aside", note: /3 attempts in a row/ }] } });
  const { page: home } = await data("/");
  expect(home).toMatchObject({ data: { numbers: { setAside: 1, idle: 1 } } });
  await sql.query("update machine set set_aside_at = null where name = 'shed-2'");
});

test("[coordinator 77] / names who is missing, since when, and when the owner was told", async () => {
  const { sql } = web.database;
  const [away] = await sql.query<{ id: number; name: string; type: string; seen: number }>(
    `select m.id, m.name, m.host_type as type, m.last_seen_at as seen from machine m
     where not exists (select from session where machine_id = m.id and closed_at is null)`,
  );
  if (!away) throw new Error("nobody is away");
  const { page: before } = await data("/");
  const of = (page: typeof before) =>
    page.name === "home" ? page.data.pools.types.find((type) => type.hostType === away.type) : undefined;
  expect(of(before)?.missing).toEqual([{ name: away.name, since: away.seen, toldAt: null }]);
  await sql.query(
    `insert into trouble (kind, subject, since, noticed_at, told_at, about)
     values ('missing', 'machine:' || $1::text, now(), now(), $2, '{}')`,
    [away.id, new Date("2026-11-25T02:25:00Z")],
  );
  const html = plainText(await page("/"));
  expect(html).toMatch(/\(\d+ missing: .*, silent since \d{4}-.*, owner told 2026-11-25 02:25/);
  expect(plainText(await page(`/machines/${encodeURIComponent(away.name)}`))).toContain("Its owner was told");
  await sql.query("delete from trouble");
});

test("a farm that is drained says so where people wait", async () => {
  const { sql } = web.database;
  await sql.query("update farm set drained_at = now(), drain_note = 'upgrade at noon'");
  expect(plainText(await page("/queues"))).toContain("drained: the whole farm: upgrade at noon");
  expect(plainText(await page("/status"))).toMatch(/The farm was drained .*: upgrade at noon. It ends what runs/);
  expect(plainText(await page(`/b/${web.seeded.waiting}`))).toContain("is drained: the whole farm: upgrade at noon");
  await sql.query("update farm set drained_at = null, drain_note = null");
});

test("whom to tell of a machine is no part of any page", async () => {
  for (const path of ["/builders?format=json", "/machines/riverboard?format=json"]) {
    expect(await page(path)).not.toContain('"notify"');
  }
});

test("a log that was deleted says so on the build's page and instead of the log", async () => {
  const { sql } = web.database;
  const id = web.seeded.failed;
  const dropped = (at: string) =>
    sql.query(
      `update log set dropped_at = ${at} from attempt a join step s on s.attempt_id = a.id where a.build_id = $1 and log.id = s.log_id`,
      [id],
    );
  await dropped("'2026-10-01'");
  expect(plainText(await page(`/b/${id}`))).toContain(
    "was deleted on 2026-10-01: it had been kept for as long as the farm keeps logs",
  );
  const { page: build } = await data(`/b/${id}`);
  const step = build.name === "build" ? build.data.step : "";
  const raw = await web.get(`/b/${id}/${step}/log`);
  expect(raw.status).toBe(410);
  expect(await raw.text()).toContain("This log was deleted on 2026-10-01");
  expect((await web.get(`/b/${id}/${step}/lines`)).status).toBe(410);
  await dropped("null");
});

test("/machines/NAME compares builder by builder, and only with five successes on each side", async () => {
  const { sql } = web.database;
  const compared = async () => {
    const { page: machine } = await data("/machines/shed-1");
    return machine.name === "machine" ? machine.data.compare.ratio : undefined;
  };
  expect(await compared()).toBe(null); // its siblings have built nothing
  // One sibling builds what takes long anyway, and one thing that both build, twice as fast.
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, machine_id, held_at, ended_at)
       select 'build', 2, m.host_type, 'submitted', 0, $1, $1, 'ended', m.id, $1, $1 from machine m, generate_series(1, 6) where m.name = 'shed-2'
       returning id, machine_id
     ), b as (
       select b.id, b.ended_at - b.started_at as took, row_number() over (order by b.id) as n from build b
       where b.builder = 'linux-386' and b.outcome = 'success' limit 6
     )
     insert into attempt (build_id, number, lease_id, machine_id, state, outcome, created_at, started_at, ended_at)
     select b.id, 7, l.id, l.machine_id, 'ended', 'success', $1, $1, $1::timestamptz + b.took / 2
     from b join (select *, row_number() over (order by id) as n from l) l using (n)`,
    [new Date(0)],
  );
  expect(await compared()).toBeCloseTo(2, 1);
  await sql.query("delete from attempt where number = 7");
});

test("/machines/NAME lists what it ran by when that ended, newest first", async () => {
  const { page: machine } = await data("/machines/shed-1");
  if (machine.name !== "machine") throw new Error(machine.name);
  const ended = machine.data.attempts.map((attempt) => attempt.endedAt);
  expect(ended).toEqual(ended.toSorted((a, b) => b - a));
});

test("/machines/NAME lists an attempt that failed on it, with the reason, whatever became of the build", async () => {
  const { sql } = web.database;
  await sql.query("update attempt set machine_fault = true where build_id = $1 and number = 1", [web.seeded.retried]);
  const { page: machine } = await data("/machines/shed-2");
  if (machine.name !== "machine") throw new Error(machine.name);
  expect(machine.data.attempts.find((attempt) => attempt.build === web.seeded.retried)).toMatchObject({
    number: 1,
    status: "infra_failure",
    reason: "the machine closed the connection",
    machineFault: true,
  });
  expect(plainText(await page("/machines/shed-2"))).toContain("the machine closed the connection its own failure");
  await sql.query("update attempt set machine_fault = false");
});

test("what drains a machine is said on every page that has it, whatever it belongs to that is drained", async () => {
  const { sql } = web.database;
  const drains = [
    ["update coordinator set drained_at = $1, drain_note = $2", "Drained with the coordinator that it is connected to"],
    ["update host_type set drained_at = $1, drain_note = $2", "Drained with all machines of its host type"],
    ["update farm set drained_at = $1, drain_note = $2", "Drained with the whole farm"],
  ] as const;
  for (const [statement, said] of drains) {
    await sql.query(statement, [new Date(), "upgrade"]);
    const html = plainText(await page("/machines/shed-2"));
    expect(html).toContain(said);
    expect(html).toContain(": upgrade. It takes nothing new.");
    expect((await data("/machines?q=shed-2")).page).toMatchObject({ data: { machines: [{ mode: "drained" }] } });
    expect(plainText(await page("/"))).toMatch(
      /shed-2 \(\S+ version 29, host-linux-amd64-shed: connected \S+ \S+, drained, idle for/,
    );
    await sql.query(statement, [null, null]);
  }
});

test("what waits for a machine that is set aside says so, on every page", async () => {
  const { sql } = web.database;
  await sql.query(
    `update machine set set_aside_at = now(), set_aside_until = $1, set_aside_reason = '3 attempts in a row failed on it; the last: it broke'
     where name = 'macmini'`,
    [new Date("2026-11-25T23:33:51Z")],
  );
  const why = "its only machine macmini is set aside until 23:33 UTC: 3 attempts in a row failed on it";
  for (const path of ["/", "/queues", `/b/${web.seeded.waiting}`]) expect(plainText(await page(path))).toContain(why);
  await sql.query("update machine set set_aside_at = null where name = 'macmini'");
});

test("/p/REPO?format=json has results only for what ended, failures with their whole address", async () => {
  const grid = (await (await web.get("/p/app?format=json")).json()) as {
    revisions: { results: string[]; statuses: string[] }[];
  };
  const seen = new Map(grid.revisions.flatMap((r) => r.statuses.map((status, i) => [status, r.results[i]])));
  expect([seen.get("running"), seen.get("waiting"), seen.get("success"), seen.get("flaky")]).toEqual([
    "",
    "",
    "ok",
    "ok",
  ]);
  expect(seen.get("failure")).toMatch(/^http:\/\/farm\.test\/b\/\d+$/);
});

test("/p/REPO: a canceled rebuild leaves the result in sight, and the cell's card tells of it", async () => {
  const { sql } = web.database;
  const hash = web.seeded.hashes[1] ?? "";
  const cell = async () =>
    (await (await web.get(`/p/app/${hash}/linux-386?format=json`)).json()) as Record<string, unknown>;
  const before = await cell();
  await sql.query(
    `insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, rebuild_of, created_at, ended_at)
     select repo, commit_id, branch, builder, host_type, recipe, provenance, class, 'ended', 'canceled', id, created_at, now() from build where id = $1`,
    [before.id],
  );
  expect([before.rebuildCanceled, await cell()]).toEqual([false, { ...before, rebuildCanceled: true }]);
  const { page: commit } = await data(`/p/app/${hash}`);
  expect(commit.name === "commit" && commit.data.cells.find((c) => c.builder === "linux-386")?.build?.id).toBe(
    before.id,
  );
  const html = plainText(await page(`/p/app/${hash}`));
  expect(html).toMatch(/Builders\d+ failed, 1 known to fail, \d+ passed, 1 skipped/);
  expect(html).toContain("windows-amd64does not build this branch");
  await sql.query("delete from build where outcome = 'canceled' and rebuild_of = $1", [before.id]);
});

test("/builders says what each builds and what it said last", async () => {
  const { page: builders } = await data("/builders");
  if (builders.name !== "builders") throw new Error(builders.name);
  const told = (name: string) => builders.data.builders.find((b) => b.name === name);
  expect(told("linux-386")?.repos).toBe("all branches");
  expect(told("windows-amd64")).toMatchObject({ repos: "app: release-*", latest: [] });
  expect(told("linux-amd64")?.latest).toEqual([{ repo: "app", build: expect.any(Number), status: "failure" }]);
});

test("/machines with 10,000 rows is a page of 200", async () => {
  await using big = await testWeb({ clock: new FakeClock(), empty: true });
  await big.database.sql.query(
    `insert into machine (host_type, name, first_seen_at, last_seen_at, agent, version, address)
     select 'host-linux-amd64-shed', 'm' || n, $1, $1, 'barnraiser', 30, '192.0.2.1:1' from generate_series(1, 10000) n`,
    [new Date(0)],
  );
  const html = await (await big.get("/machines?page=51")).text();
  expect(plainText(html)).toContain("page 51 of 51");
  expect(html.match(/<tr/g)?.length).toBe(8);
});

test("/queues, in the heading of the queue, and the page of what waits there say why nobody serves, in the same words", async () => {
  const { sql } = web.database;
  const [build] = await sql.query<{ id: number }>(
    "select id from build where builder = 'freebsd-amd64' and state = 'scheduled'",
  );
  const attic = "(select id from machine where name = 'attic')";
  const said = async (why: string): Promise<void> => {
    const queues = await page("/queues");
    expect(plainText(queues.slice(queues.indexOf('id="host-freebsd-amd64-attic"')))).toContain(`1 waiting · ${why}`);
    expect(plainText(queues).split(why).length).toBe(2);
    expect(plainText(queues)).not.toContain(`cannot say: ${why}`);
    const own = plainText(await page(`/b/${build?.id}`));
    expect(own).toContain(`freebsd-amd64 waits: ${why}`);
    expect(own).toContain("When it begins nobody can say. ");
  };
  await said("its only machine is drained");
  const [open] = await sql.query<{ id: string }>(
    `update session set closed_at = now(), close_reason = 'it closed the connection' where machine_id = ${attic} and closed_at is null returning id`,
  );
  await said("its only machine is not connected");
  await sql.query("update session set closed_at = null, close_reason = null where id = $1", [open?.id]);
  await sql.query(
    `update machine set set_aside_at = now(), set_aside_until = '2030-01-01T15:30Z', set_aside_reason = '3 attempts in a row failed on it' where id = ${attic}`,
  );
  await said("its only machine attic is set aside until 15:30 UTC: 3 attempts in a row failed on it");
  await sql.query(
    `update machine set set_aside_at = null, set_aside_until = null, set_aside_reason = null where id = ${attic}`,
  );
});

test("/queues shows each queue in its order", async () => {
  const { page: queues } = await data("/queues");
  if (queues.name !== "queues") throw new Error(queues.name);
  expect(queues.data.queues.map((q) => [q.hostType, q.busy, q.machines, q.waiting])).toEqual([
    ["host-darwin-arm64-shelf", 1, 1, 1],
    ["host-freebsd-amd64-attic", 0, 0, 1],
    ["host-linux-amd64-shed", 1, 3, 0],
    ["host-linux-riscv64-lent", 1, 1, 0],
  ]);
});

test("a waiting build says its place, what stands before it and when it begins, as a page and as JSON; its machine what it takes next", async () => {
  const { page: build } = await data(`/b/${web.seeded.waiting}`);
  if (build.name !== "build" || !build.data.wait) throw new Error(build.name);
  const { wait } = build.data;
  expect(wait).toMatchObject({
    place: 1,
    more: false,
    configured: true,
    ahead: { starving: 0, same: 0, others: [], builds: [] },
  });
  expect(wait.estimate === null).toBe(wait.unknown !== null);
  const html = await page(`/b/${web.seeded.waiting}`);
  expect(html).toContain("Before it: nothing");
  expect(html).toContain("The whole queue");
  const { page: queues } = await data("/queues");
  if (queues.name !== "queues") throw new Error(queues.name);
  const item = queues.data.queues.flatMap((q) => q.items).find((each) => each.build?.id === web.seeded.waiting);
  expect([item?.estimate, item?.unknown]).toEqual([wait.estimate, wait.unknown]);
  const machines = await web.database.sql.query<{ name: string; host_type: string }>(
    `select m.name, m.host_type from machine m join session s on s.machine_id = m.id and s.closed_at is null
     where m.host_type = $1 and m.drained_at is null`,
    [build.data.build.hostType],
  );
  for (const { name, host_type } of machines) {
    const { page: machine } = await data(`/machines/${name}?type=${host_type}`);
    if (machine.name !== "machine") throw new Error(machine.name);
    expect(machine.data.next.map((lease) => lease.build?.id)).toContain(web.seeded.waiting);
  }
});

test("10,000 that wait: the first hundred are shown, in a moment", async () => {
  const { sql } = web.database;
  const hostType = "host-freebsd-amd64-attic";
  await sql.query(
    `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
     select 'build', 3, $1, 'flow ' || n % 9, 'app', 'submitted', n, now(), now() + interval '1 day' from generate_series(1, 10000) n`,
    [hostType],
  );
  try {
    await page("/queues");
    const started = performance.now();
    const html = await page("/queues");
    expect(performance.now() - started).toBeLessThan(2000);
    expect(html).toContain("and 9,901 more");
    expect(html.length).toBeLessThan(400_000);
  } finally {
    await sql.query("delete from lease where queue = $1 and flow like 'flow %'", [hostType]);
  }
});

test("/builders?mode=json has upstream's exported fields, indented by tabs", async () => {
  const text = await (await web.get("/builders?mode=json")).text();
  expect(
    text.startsWith(
      '{\n\t"Builders": {\n\t\t"linux-amd64": {\n\t\t\t"Name": "linux-amd64",\n\t\t\t"HostType": "host-linux-amd64-shed",',
    ),
  ).toBe(true);
  const parsed = JSON.parse(text) as { Hosts: Record<string, unknown> };
  expect(parsed.Hosts["host-linux-riscv64-lent"]).toMatchObject({
    HostType: "host-linux-riscv64-lent",
    HostArch: "linux-riscv64",
    IsReverse: true,
    ExpectNum: 2,
  });
  const html = await page("/builders");
  expect(html).toContain('href="#host-linux-riscv64-lent"');
  expect(html).toContain('id="host-linux-riscv64-lent"');
  expect(html).toContain('href="/builders#linux-riscv64"');
});

test("/status/reverse.json keeps upstream's shape", async () => {
  const reverse = (await (await web.get("/status/reverse.json")).json()) as { HostTypes: Record<string, unknown> };
  expect(reverse.HostTypes["host-linux-riscv64-lent"]).toEqual({
    HostType: "host-linux-riscv64-lent",
    Connected: 1,
    Expect: 2,
    Idle: 0,
    Busy: 1,
    Waiters: 0,
    Machines: {
      riverboard: {
        Name: "riverboard",
        HostType: "host-linux-riscv64-lent",
        ConnectedSec: 2900 * 60,
        BusySec: expect.any(Number),
        Version: "29",
        Busy: true,
      },
    },
  });
});

test("/metrics counts from the database: a gauge of what is gone says 0; ended builds are counted once", async () => {
  const metrics = async (): Promise<string> => (await web.get("/metrics")).text();
  const line = 'barnraiser_machines{host_type="host-linux-riscv64-lent",state="busy"}';
  expect(await metrics()).toContain(`${line} 1`);
  const [, first] =
    /barnraiser_builds_ended_total\{outcome="success",host_type="host-linux-amd64-shed"\} (\d+)/.exec(
      await metrics(),
    ) ?? [];
  expect(Number(first)).toBeGreaterThan(0);
  expect(await metrics()).toContain(
    `barnraiser_builds_ended_total{outcome="success",host_type="host-linux-amd64-shed"} ${first}`,
  );
  const { sql } = web.database;
  await using other = await testWeb();
  await other.database.sql.query(
    "update build set flaky_tests = 1 where state = 'ended' and outcome = 'success' and host_type = 'host-linux-amd64-shed'",
  );
  const text = await (await other.get("/metrics")).text();
  expect(text).toContain(`barnraiser_builds_ended_total{outcome="flaky",host_type="host-linux-amd64-shed"} ${first}`);
  expect(text).not.toContain('{outcome="success",host_type="host-linux-amd64-shed"}');
  expect(plainText(await (await other.get("/")).text())).toMatch(/builds? in 24 h, [1-9]\d* flaky/);
  await sql.query("update session set closed_at = opened_at where machine_id = $1", [web.seeded.machine.id]);
  expect(await metrics()).toContain(`${line} 0`);
  await sql.query(
    "update session set closed_at = null where machine_id = $1 and opened_at = (select max(opened_at) from session where machine_id = $1)",
    [web.seeded.machine.id],
  );
});

test("search finds builds, commits, branches, builders and machines; a number leads straight to its build", async () => {
  const { running, hashes } = web.seeded;
  const straight = await web.get(`/search?q=%23${running}`);
  expect([straight.status, straight.headers.get("location")]).toEqual([302, `/b/${running}`]);
  const hits = async (q: string): Promise<string[]> => {
    const { page: found } = await data(`/search?q=${encodeURIComponent(q)}`);
    return found.name === "search" ? found.data.hits.map((hit) => `${hit.kind} ${hit.href}`) : [];
  };
  expect(await hits(hashes[0]?.slice(0, 10) ?? "")).toEqual([`commit /p/app/${hashes[0]}`]);
  expect(await hits("riverb")).toEqual(["machine /machines/riverboard?type=host-linux-riscv64-lent"]);
  expect(await hits("race")).toEqual(["builder /builders#linux-amd64-race"]);
  expect(await hits("main")).toContain("branch /p/app?branch=main");
  expect(await hits("%")).toEqual([]);
});

test("404 suggests what may have been meant", async () => {
  const response = await web.get("/machine/riverboard");
  expect(response.status).toBe(404);
  expect(await response.text()).toContain('href="/machines/riverboard?type=host-linux-riscv64-lent"');
  const mistyped = await web.get("/machines/riverboart");
  expect([mistyped.status, await mistyped.text()]).toEqual([
    404,
    expect.stringContaining('href="/machines/riverboard?'),
  ]);
  const nosuch = await web.get("/p/nosuch");
  expect(nosuch.status).toBe(404);
  expect(await nosuch.text()).toContain('<a href="/p/tools" class="open">');
  expect(await (await web.get(`/p/app/${"f".repeat(12)}`)).text()).toContain('<a href="/p/app" class="open">');
  expect((await web.get("/b/0")).status).toBe(404);
  expect((await web.get("/b/999999999999999999999")).status).toBe(404);
  expect((await web.get("/%E0%A4%A")).status).toBe(404);
});

test("pages are compressed for whoever can read that", async () => {
  const response = await web.get("/", { headers: { "accept-encoding": "gzip, br" } });
  expect(response.headers.get("content-encoding")).toBe("gzip");
  expect(gunzipSync(Buffer.from(await response.arrayBuffer())).toString()).toContain("The test farm");
});

test("while the database is away pages say so at once, and what needs none goes on", async () => {
  const clock = new FakeClock();
  const never: <T>() => Promise<T> = () => new Promise(() => {});
  await using away = await testWeb({ clock, empty: true, deps: { sql: { query: never, tx: never } } });
  const asked = away.get("/");
  while (clock.sleeping === 0) await new Promise((next) => setImmediate(next));
  await clock.advance(5000 as Parameters<typeof clock.advance>[0]);
  const response = await asked;
  expect([response.status, plainText(await response.text()).includes("What goes on meanwhile")]).toEqual([503, true]);
  expect(await (await away.get("/healthz")).text()).toBe("ok\n");
  expect((await away.get("/login")).status).toBe(200);
});
