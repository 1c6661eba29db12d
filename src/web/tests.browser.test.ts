/** The tests of a build on its page, in a real browser: what is seen first, filtering without script, both schemes, both widths. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { emptyLog } from "../store/logs.ts";
import { shifted, type TestBrowser, testBrowser } from "./testing/browser.ts";
import { picture, wrong } from "./testing/looks.ts";
import { seedTests } from "./testing/seed-tests.ts";
import type { TestWeb } from "./testing/web.ts";

let browser: TestBrowser;
let web: TestWeb;
let at: string;
const open: TestBrowser["open"] = (path, options) => browser.open(path, options);

beforeAll(async () => {
  browser = await testBrowser();
  ({ web, at } = browser);
  const { failed, failedLog, machine } = web.seeded;
  await seedTests(web.database.sql, failed, machine.id, failedLog);
}, 60_000);
afterAll(() => browser?.[Symbol.asyncDispose]());

test("failed tests come first with their last lines, then flaky ones; the list is a page of 100", async () => {
  await using page = await open(`/b/${web.seeded.failed}`);
  const first = await page.locator(".failed-test").first().innerText();
  expect(first).toContain("parser/TestQuotes");
  expect(first).toContain("failed twice");
  expect(await page.locator(".failed-test .lines .row").count()).toBeGreaterThan(0);
  expect(await page.locator(".flake").first().innerText()).toContain("failed once, then passed");
  expect(await page.locator("#tests tbody tr").first().innerText()).toContain("failed");
  expect(await page.locator("#tests h2").innerText()).toContain("249/250");
  expect(await page.locator("#tests tbody tr").count()).toBe(100);
  await page.locator(".failed-test a").first().click();
  await page.waitForURL(/\/b\/\d+\/group-\d+\?test=\d+#L1$/);
  expect(await page.locator(".group-title").innerText()).toMatch(/^parser\/TestQuotes on riverboard/);
  expect(await page.locator(".log").count()).toBe(1);
});

test("a build that its tests made fail opens the log of the group that failed, once: a short one is above already", async () => {
  const { failed, failedLog } = web.seeded;
  await using page = await open(`/b/${failed}`);
  expect(await page.locator(".group-title").innerText()).toMatch(/^parser\/TestQuotes on riverboard/);
  const { sql } = web.database;
  const short = await web.logs.create();
  const writer = web.logs.writer(emptyLog(short, 0));
  await writer.write(Buffer.from("=== RUN TestQuotes\nerror: no\n"));
  await writer.close();
  await sql.query("update test_group set log_id = $1 where log_id = $2", [short, failedLog]);
  await page.goto(`${at}/b/${failed}`);
  expect([await page.locator(".log").count(), (await page.locator(".failed-test .row").count()) > 1]).toEqual([
    0,
    true,
  ]);
  await sql.query("update test_group set log_id = $1 where log_id = $2", [failedLog, short]);
  const [group] = await sql.query<{ id: number }>(
    `insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, status, started_at, ended_at)
     select build_id, lease_id, machine_id, $1, array[1], nonce, state, status, started_at, ended_at from test_group
     where build_id = $2 order by id limit 1 returning id`,
    [short, failed],
  );
  await page.goto(`${at}/b/${failed}/group-${group?.id}?test=1`);
  await page.waitForSelector("html[data-live=yes]");
  expect((await page.locator(".log-box").boundingBox())?.height).toBeLessThan(60);
});

test("markers stand in a log as dim words, with script and without, and are found by them; the raw text has every byte", async () => {
  const { sql } = web.database;
  const { failed } = web.seeded;
  const log = await web.logs.create();
  const mark = `##barnraiser:${"0a".repeat(16)}`;
  const bytes = `${mark} begin t7\nexpected 3, got 4\n${mark} fail t7\n`;
  const writer = web.logs.writer(emptyLog(log, 0));
  await writer.write(Buffer.from(bytes));
  await writer.close();
  const [group] = await sql.query<{ id: number }>(
    `insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, status, started_at, ended_at)
     select build_id, lease_id, machine_id, $1, array[1], nonce, state, status, started_at, ended_at from test_group
     where build_id = $2 order by id limit 1 returning id`,
    [log, failed],
  );
  const path = `/b/${failed}/group-${group?.id}`;
  for (const javaScriptEnabled of [true, false]) {
    await using page = await open(path, { javaScriptEnabled });
    expect(await page.locator(".log-box .tx").allInnerTexts()).toEqual(["begin t7", "expected 3, got 4", "fail t7"]);
    expect(await page.locator(".log-box .mk").allInnerTexts()).toEqual(["begin t7", "fail t7"]);
  }
  expect(await (await fetch(`${at}${path}/log`)).text()).toBe(bytes);
  expect(await (await fetch(`${at}${path}/find?q=fail`)).json()).toMatchObject({ lines: [3] });
  expect(await (await fetch(`${at}${path}/find?q=barnraiser`)).json()).toMatchObject({ count: 0 });
});

test("a page that shows the log of an attempt goes on to the log of the next one when that begins, and mixes them never", async () => {
  const { sql, bus } = web.database;
  const { running } = web.seeded;
  const [step] = await sql.query<{ name: string; lease: number; number: number }>(
    `select s.name, a.lease_id as lease, a.number from attempt a join step s on s.attempt_id = a.id
     where a.build_id = $1 and s.log_id is not null order by a.number desc, s.number desc limit 1`,
    [running],
  );
  await using page = await open(`/b/${running}/${step?.name}`);
  await page.waitForSelector("html[data-live=yes]");
  const raw = () => page.locator("a", { hasText: "Raw text" }).getAttribute("href");
  expect(await raw()).toBe(`/b/${running}/${step?.name}/log?attempt=${step?.number}`);
  const text = "the next attempt\n";
  const next = await web.logs.create();
  const writer = web.logs.writer(emptyLog(next, 0));
  await writer.write(Buffer.from(text));
  await writer.close();
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at)
       select kind, class, queue, provenance, rank, wanted_at, starves_at from lease where id = $3 returning id
     ), a as (
       insert into attempt (build_id, number, lease_id, state, created_at, started_at) select $1, $2, id, 'running', now(), now() from l returning id
     ) insert into step (attempt_id, number, name, log_id, started_at) select id, 1, $4, $5, now() from a`,
    [running, (step?.number ?? 0) + 1, step?.lease, step?.name, next],
  );
  bus.publish(`build:${running}`);
  await page.waitForFunction(() => document.querySelector(".log-box")?.textContent?.includes("the next attempt"));
  expect(await raw()).toBe(`/b/${running}/${step?.name}/log?attempt=${(step?.number ?? 0) + 1}`);
  expect(await page.locator(".log-box .row").count()).toBeLessThan(4);
  await sql.query(
    `with s as (delete from step where log_id = $1 returning attempt_id), a as (
       delete from attempt using s where id = s.attempt_id returning lease_id
     ) delete from lease using a where id = a.lease_id`,
    [next],
  );
  bus.publish(`build:${running}`);
});

test("nothing moves while tests run, fail and end", async () => {
  const { sql, bus } = web.database;
  const { running, runningLog, machine } = web.seeded;
  await sql.query(
    "update step set name = 'tests' where name = 'test' and attempt_id = (select id from attempt where build_id = $1)",
    [running],
  );
  await using page = await open(`/b/${running}`);
  await page.waitForSelector("html[data-live=yes]");
  await seedTests(sql, running, machine.id, runningLog);
  bus.publish(`build:${running}`);
  await page.waitForSelector(".troubles .failed-test");
  await sql.query("update attempt set state = 'ended', outcome = 'failure', ended_at = now() where build_id = $1", [
    running,
  ]);
  await sql.query(
    "update build set state = 'ended', outcome = 'failure', failed_step = 'tests', reason = '3 of 250 tests failed', ended_at = now() where id = $1",
    [running],
  );
  bus.publish(`build:${running}`);
  await page.waitForFunction(() => document.querySelector("h1")?.textContent?.includes("failed in"));
  // Words that come into a line push the rest of it; no line and no box moves.
  expect(await shifted(page)).toBeLessThan(0.005);
});

test("the list is filtered and paged without script", async () => {
  await using page = await open(`/b/${web.seeded.failed}`, { javaScriptEnabled: false });
  await page.locator("#tests select").selectOption("failed");
  await page.locator("#tests button").click();
  expect(await page.locator("#tests tbody tr").count()).toBe(3);
  await page.goto(`${at}/b/${web.seeded.failed}?q=Test24`);
  expect(await page.locator("#tests tbody tr").count()).toBe(11);
  await page.goto(`${at}/b/${web.seeded.failed}?after=3.200`);
  expect(await page.locator("#tests tbody tr").count()).toBe(50);
});

test("a flaky success is seen as flaky in the lists, the grid and on its page", async () => {
  const { sql } = web.database;
  const [build] = await sql.query<{ id: number }>(
    "select id from build where outcome = 'success' and repo = 'app' order by ended_at desc limit 1",
  );
  const id = build?.id ?? 0;
  await sql.query("update build set flaky_tests = 2 where id = $1", [id]);
  await sql.query(
    `insert into test_run (build_id, listed_at, total, waiting, flaky, known_ms, unknown, ended_at) values ($1, now(), 9, 0, 2, 0, 0, now())`,
    [id],
  );
  await using page = await open(`/b/${id}`);
  expect(await page.locator("h1").innerText()).toMatch(/≈.* passed in .*, with 2 flaky tests/s);
  await page.goto(`${at}/p/app`);
  expect(await page.locator(`td a[href="/b/${id}"]`).first().innerText()).toContain("≈");
  await page.goto(at);
  expect(await page.locator(`tr:has(a[href="/b/${id}"])`).innerText()).toContain("2 flaky tests");
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [390, 1280]) {
    test(`axe finds nothing, ${colorScheme}, ${width} px, and nothing sticks out`, async () => {
      await using page = await open(`/b/${web.seeded.failed}`, {
        colorScheme,
        bypassCSP: true,
        viewport: { width, height: 900 },
      });
      await page.locator(".by-hand summary").click();
      await picture(page, `tests-${colorScheme}-${width}`);
      expect(await wrong(page)).toEqual([]);
    }, 30_000);
  }
}

test("no page complained in the browser's console", () => {
  expect(browser.complaints).toEqual([]);
});
