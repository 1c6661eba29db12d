/**
 * Pages in a real browser: that they come alive without a jump, that keys and links work, that nobody is shut out.
 * One browser and one farm for all; each test has a page of its own.
 */
import axe from "axe-core";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { emptyLog } from "../store/logs.ts";
import { shifted, type TestBrowser, testBrowser } from "./testing/browser.ts";
import { type TestWeb, TOKEN } from "./testing/web.ts";

let browser: TestBrowser;
let web: TestWeb;
let at: string;
const open: TestBrowser["open"] = (path, options) => browser.open(path, options);

beforeAll(async () => {
  browser = await testBrowser();
  ({ web, at } = browser);
}, 60_000);
afterAll(() => browser?.[Symbol.asyncDispose]());

const live = (page: Page): Promise<unknown> => page.waitForSelector("html[data-live=yes]");
const text = (page: Page, selector: string): Promise<string> => page.locator(selector).innerText();

test("a build that ends is seen on / and on its own page without reload and without a jump", async () => {
  await using home = await open("/");
  await using own = await open(`/b/${web.seeded.running}`);
  await Promise.all([live(home), live(own)]);
  expect(await text(home, "#active")).toContain("linux-riscv64");
  expect(await text(own, "h1")).toContain("is running “test”");
  const { sql, bus } = web.database;
  await sql.query("update build set state = 'ended', outcome = 'success', ended_at = now() where id = $1", [
    web.seeded.running,
  ]);
  await sql.query("update attempt set state = 'ended', outcome = 'success', ended_at = now() where build_id = $1", [
    web.seeded.running,
  ]);
  bus.publish(`build:${web.seeded.running}`);
  await own.waitForFunction(() => document.querySelector("h1")?.textContent?.includes("passed in"));
  await home.waitForFunction(() => !document.querySelector("#active")?.textContent?.includes("linux-riscv64"));
  expect(await home.locator("#completed tbody tr").first().innerText()).toContain("linux-riscv64");
  expect(await own.evaluate(() => performance.getEntriesByType("navigation").length)).toBe(1);
  expect(await shifted(own)).toBe(0);
  // What stands below a row that left moves up, in view of the reader who watches it; nothing else does.
  expect(await shifted(home)).toBeLessThan(0.1);
});

test("a page takes up what happened between its making and its first connection for news", async () => {
  const { sql, bus } = web.database;
  await using page = await open("/queues");
  const [machine] = await sql.query<{ id: number }>("select id from machine where name = 'macmini'");
  await page.route("**/assets/farm*", async (route) => {
    await sql.query("update machine set platform = 'a platform of meanwhile' where id = $1", [machine?.id]);
    bus.publish(`machine:${machine?.id}`);
    await route.continue();
  });
  await page.goto(`${at}/machines/macmini`);
  await page.getByText("a platform of meanwhile").waitFor();
});

for (const width of [390, 1280])
  test(`what comes and goes in lists leaves the columns where they are, ${width} px`, async () => {
    const { sql, bus } = web.database;
    const long = "linux-amd64-slowandsteadylongtestnoopt";
    const name = async (from: string, to: string) => {
      await sql.query("update build set builder = $2 where builder = $1", [from, to]);
      for (const topic of ["build:1", "queue:", "machine:1"]) bus.publish(topic);
    };
    for (const path of ["/", "/queues", "/machines"]) {
      await using page = await open(path, { viewport: { width, height: 900 } });
      await live(page);
      const before = await shifted(page);
      const short = path === "/queues" ? "darwin-arm64-longtest" : "darwin-arm64";
      await name(short, long);
      await page.waitForSelector(`text=${long}`);
      if (width > 800) {
        const cells = await page
          .locator(".builds td.wide .subject")
          .evaluateAll((all) => all.map((one) => one.clientWidth));
        expect([path, Math.min(160, ...cells)]).toEqual([path, 160]);
        const cut = await page
          .locator(".scroll")
          .evaluateAll((all) => all.map((box) => box.scrollWidth - box.clientWidth));
        expect([path, Math.max(0, ...cut)]).toEqual([path, 0]);
      }
      await name(long, short);
      await page.waitForFunction((text) => !document.querySelector("main")?.textContent?.includes(text), long);
      expect([path, (await shifted(page)) - before < 0.1]).toEqual([path, true]);
    }
  });

test("a red build names what is found out about its culprit as soon as it is known", async () => {
  await using page = await open(`/b/${web.seeded.failed}`);
  await live(page);
  expect(await text(page, ".since")).toMatch(/red since [0-9a-f]{8} Fix the parser, part 26 by A\. Author/);
  const { sql, bus } = web.database;
  const of = "builder = 'linux-amd64' and commit_id = (select id from commit where hash = $1)";
  await sql.query(`update build set outcome = 'skipped' where ${of}`, [web.seeded.hashes[3]]);
  bus.publish("standing:app");
  await page.waitForFunction(() => document.querySelector(".since")?.textContent?.includes("1 commit between"));
  await sql.query(`update build set outcome = 'failure' where ${of}`, [web.seeded.hashes[3]]);
  expect(await page.evaluate(() => performance.getEntriesByType("navigation").length)).toBe(1);
});

test("a page whose connection is broken says that it may be old, until it is there again", async () => {
  await using page = await browser.open("/queues");
  await live(page);
  const lost = page.getByText("The farm does not answer");
  await page.route("**/events?*", (route) => route.fulfill({ status: 404 }));
  const turn = (hidden: boolean) =>
    page.evaluate((is) => {
      Object.defineProperty(document, "hidden", { value: is, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await turn(true);
  expect(await lost.isVisible()).toBe(false); // nobody looks, and it has hung up itself
  await turn(false);
  await lost.waitFor();
  await page.unroute("**/events?*");
  await lost.waitFor({ state: "hidden" });
});

test("the grid takes up a result in its one cell, keeps the focus, and nothing moves", async () => {
  await using page = await open("/p/app");
  await live(page);
  const { sql, bus } = web.database;
  const [build] = await sql.query<{ id: number }>(
    "select id from build where state = 'running' and builder = 'darwin-arm64'",
  );
  const newest = `#c${web.seeded.hashes[0]?.slice(0, 12)}`;
  await page.locator("#grid").focus();
  for (const key of ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"])
    await page.keyboard.press(key);
  const focused = (): Promise<unknown> =>
    page.evaluate(() => [
      document.activeElement?.closest("tr")?.id,
      document.activeElement?.closest("td")?.className.split(" ")[0],
    ]);
  expect(await focused()).toEqual([newest.slice(1), "ru"]);
  await sql.query(
    "update build set state = 'ended', outcome = 'failure', failed_step = 'test', ended_at = now() where id = $1",
    [build?.id],
  );
  bus.publish("grid:app");
  await page.waitForSelector(`${newest} td.no a[href="/b/${build?.id}"]`);
  expect(await focused()).toEqual([newest.slice(1), "no"]);
  expect(await shifted(page)).toBe(0);
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/b/${build?.id}`);
});

async function push(digit: string, position: number, message: string): Promise<void> {
  const { sql, bus } = web.database;
  await sql.query(
    `with c as (insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at)
       values ('app', $1, '{}', 'N. Ew', 'n@example.org', now(), $3, now()) returning id)
     insert into branch_commit (repo, branch, position, commit_id) select 'app', 'main', $2, id from c`,
    [digit.repeat(40), position, message],
  );
  bus.publish("grid:app");
}

test("a new commit appears on top of the grid", async () => {
  await using page = await open("/p/app");
  await live(page);
  await push("f", 1000, "Brand new");
  await page.waitForSelector("#now + tr:has-text('Brand new')");
  expect(await page.locator(".grid tbody tr").count()).toBe(32);
});

for (const [i, width] of [390, 1280].entries())
  test(`whoever looks at older commits is told of newer ones, not moved, and goes up with a click, ${width} px`, async () => {
    const { sql, bus } = web.database;
    await using page = await open("/p/app", { viewport: { width, height: 500 } });
    await live(page);
    const older = page.locator(`#c${web.seeded.hashes[20]?.slice(0, 12)}`);
    const rows = await page.locator(".grid tbody tr").count();
    if (width > 800) await page.locator("#grid").evaluate((box) => box.scrollTo(0, 240));
    else await older.scrollIntoViewIfNeeded();
    const top = (): Promise<number> => older.evaluate((row) => row.getBoundingClientRect().top);
    const before = await top();
    await push(`${i + 1}`, 1001 + 2 * i, `First of two, ${width}`);
    await page.getByRole("button", { name: "1 newer commit" }).waitFor();
    await push(`${i + 3}`, 1002 + 2 * i, `Second of two, ${width}`);
    await page.getByRole("button", { name: "2 newer commits" }).waitFor();
    const [done] = await sql.query<{ id: number }>(
      "update build set outcome = 'canceled' where builder = 'linux-riscv64' and commit_id = (select id from commit where hash = $1) returning id",
      [web.seeded.hashes[20]],
    );
    bus.publish("grid:app");
    await page.waitForSelector(`td.ca a[href="/b/${done?.id}"]`, { state: "attached" });
    expect([await page.locator(".grid tbody tr").count(), await top()]).toEqual([rows, before]);
    expect(await shifted(page)).toBe(0);
    await page.getByRole("button", { name: "2 newer commits" }).click();
    await page.waitForSelector(`#now + tr:has-text('Second of two, ${width}') + tr:has-text('First of two')`);
    expect(await page.evaluate(() => document.activeElement?.closest("tr")?.textContent)).toContain("Second of two");
    expect(await page.locator(".newer button").count()).toBe(0);
    await sql.query("update build set outcome = 'success' where id = $1", [done?.id]);
  });

test("every cell is a link under the pointer, with a card that says more", async () => {
  await using page = await open("/p/app");
  const row = page.locator(`#c${web.seeded.hashes[1]?.slice(0, 12)}`);
  await row.locator("td.no").first().hover();
  await page.waitForSelector(".card:not([hidden]) >> text=make: *** [test] Error 2");
  expect(await text(page, ".card")).toContain("linux-amd64 failure in test, 3m 06s, on shed-1");
  await row.locator("td.ok").first().hover();
  await page.waitForSelector(".card:not([hidden]) >> text=linux-386 success");
  expect(await row.locator("td.ok a").first().getAttribute("href")).toMatch(/^\/b\/\d+$/);
});

test("the log: a link to a line, search with a count, wrap, copy", async () => {
  await using page = await open(`/b/${web.seeded.failed}/test#L640`);
  await page.waitForSelector(".row.sel >> text=suite 16 passed");
  expect(await page.locator(".row.sel .f2").innerText()).toBe("✓");
  expect(await page.locator(".log-box .row").count()).toBeLessThan(60);
  await page.getByLabel("Find in log").fill("suite 3");
  await page.waitForFunction(() => document.querySelector(".found")?.textContent === "1 of 4");
  await page.waitForSelector(".row.sel mark");
  await page.getByLabel("Find in log").press("Enter");
  await page.waitForFunction(() => document.querySelector(".found")?.textContent === "2 of 4");
  await page.waitForSelector(".row.sel[data-line='1200']");
  await page.getByLabel("Find in log").press("Shift+Enter");
  await page.waitForSelector(".row.sel[data-line='120']");
  await page.getByRole("button", { name: "Wrap" }).click();
  expect(await page.locator(".log-box.wrap").count()).toBe(1);
  await page.locator(".row[data-line='121'] .ln").click();
  expect(page.url()).toContain("#L121");
  await page.getByRole("button", { name: "Copy link to 121" }).waitFor();
  await page.locator(".log-box").focus();
  await page.keyboard.press("End");
  await page.waitForSelector(".row >> text=make: leaving directory");
  await page.locator(".why .ln").first().click();
  await page.waitForSelector(".row.sel[data-line='1287']");
});

test("the log follows what is written, leaves off when the reader scrolls up, and takes up at the end", async () => {
  const { sql } = web.database;
  const id = await web.logs.create();
  const [darwin] = await sql.query<{ id: number }>(
    "select id from build where builder = 'linux-amd64' and state = 'running'",
  );
  await sql.query(
    `update step set log_id = $2 where name = 'test' and attempt_id = (select id from attempt where build_id = $1)`,
    [darwin?.id, id],
  );
  const writer = web.logs.writer(emptyLog(id, 0));
  await writer.write(Buffer.from("first\n"));
  await using page = await open(`/b/${darwin?.id}`);
  await live(page);
  const follow = page.getByRole("button", { name: "Follow" });
  expect(await follow.getAttribute("aria-pressed")).toBe("true");
  for (let i = 1; i <= 3000; i++) await writer.write(Buffer.from(`line ${i}\n`));
  await page.waitForSelector(".row >> text=/^line 3000$/");
  await page.locator(".log-box").hover();
  await page.mouse.wheel(0, -4000);
  await page.waitForFunction(() => document.querySelector(".log-bar button[aria-pressed='true']") === null);
  const first = await page.locator(".log-box .row").first().getAttribute("data-line");
  await writer.write(Buffer.from("more\n"));
  await page.waitForFunction(() => document.querySelector(".log-bar")?.textContent?.includes("3,002 lines"));
  expect(await page.locator(".log-box .row").first().getAttribute("data-line")).toBe(first);
  await page.locator(".log-box").focus();
  await page.keyboard.press("f");
  await page.waitForSelector(".row >> text=/^more$/");
  expect(await shifted(page)).toBe(0);
  expect(await follow.getAttribute("aria-pressed")).toBe("true");
  await writer.close();
  await page.waitForFunction(() => !document.querySelector(".log-bar")?.textContent?.includes("growing"));
  expect(await follow.getAttribute("aria-pressed")).toBe("false");
});

for (const width of [390, 1280])
  test(`the page of a build that waits has no empty room, and what it has stays where it is when it begins and writes, ${width} px`, async () => {
    const { sql, bus } = web.database;
    const id = web.seeded.waiting;
    const attempt = "(select id from attempt where build_id = $1)";
    const log = await web.logs.create();
    await sql.query(`update step set name = 'tests' where name = 'test' and attempt_id = ${attempt}`, [id]);
    await using page = await open(`/b/${id}`, { viewport: { width, height: 900 } });
    await live(page);
    expect(await page.locator(".log-box, .troubles").count()).toBe(0);
    expect(await text(page, "main")).not.toMatch(/No test has failed for good yet|No output yet/);
    const tops = () =>
      page
        .locator("main h1, main .lead, main .timeline, main .steps, main h2, main .minis")
        .evaluateAll((all) => all.map((one) => Math.round(one.getBoundingClientRect().top)));
    const before = await tops();
    // Of what stands below each other nothing is further apart than two lines.
    const gaps = await page.locator("main").evaluate((main) => {
      const boxes = [...main.querySelectorAll("h1, .lead > *, .timeline, .steps, h2, .minis")]
        .map((one) => one.getBoundingClientRect())
        .filter((box) => box.height > 0);
      return boxes.slice(1).map((box, i) => box.top - Math.max(...boxes.slice(0, i + 1).map((each) => each.bottom)));
    });
    expect(Math.max(...gaps)).toBeLessThan(45);
    await sql.query("update attempt set state = 'running', started_at = now() where build_id = $1", [id]);
    await sql.query("update build set state = 'running', started_at = now() where id = $1", [id]);
    await sql.query(
      `update step set log_id = $2, started_at = now() where name = 'source' and attempt_id = ${attempt}`,
      [id, log],
    );
    const writer = web.logs.writer(emptyLog(log, 0));
    await writer.write(Buffer.from("first line\n"));
    bus.publish(`build:${id}`);
    await page.waitForSelector(".log-box .row >> text=/^first line$/");
    await page.waitForSelector(".timeline rect.ru"); // the step that runs is in the bar
    expect(await page.locator(".troubles").innerText()).toBe("No test has failed for good yet.");
    expect(await text(page, ".steps")).toMatch(/waited \d+m/);
    expect((await tops()).slice(0, before.length)).toEqual(before);
    expect(await shifted(page)).toBeLessThan(0.1); // the foot of the page goes down, and nothing else
    await writer.close();
    await sql.query(`update step set name = 'test' where name = 'tests' and attempt_id = ${attempt}`, [id]);
    await sql.query(`update step set log_id = null, started_at = null where attempt_id = ${attempt}`, [id]);
    await sql.query("update attempt set state = 'waiting', started_at = null where build_id = $1", [id]);
    await sql.query("update build set state = 'scheduled', started_at = null where id = $1", [id]);
  });

for (const reader of ["at its end", "further up"] as const)
  test(`what says why a step failed appears when it ends, over the end of its log, and moves nothing: a reader ${reader}`, async () => {
    const { sql, bus } = web.database;
    const log = await web.logs.create();
    const [build] = await sql.query<{ id: number; attempt: number }>(
      `update step set log_id = $1, outcome = null, status = null, ended_at = null from attempt a, build b
       where step.name = 'test' and step.attempt_id = a.id and a.build_id = b.id and b.state = 'running' and b.builder = 'linux-amd64'
       returning b.id, a.id as attempt`,
      [log],
    );
    const writer = web.logs.writer(emptyLog(log, 0));
    for (let i = 1; i <= 200; i++) await writer.write(Buffer.from(`line ${i}\n`));
    await writer.write(Buffer.from("parser.c:41: error: expected 3, got 4\nmake: leaving\n"));
    await using page = await open(`/b/${build?.id}`);
    await live(page);
    await page.waitForSelector(".log-box .row >> text=make: leaving");
    if (reader === "further up") {
      await page.locator(".log-box").hover();
      await page.mouse.wheel(0, -800);
      await page.waitForSelector(".log-box .row >> text=/^line 150$/");
    }
    const rows = () =>
      page
        .locator(".log-box .row")
        .evaluateAll((all) => all.map((row) => [row.textContent, row.getBoundingClientRect().top]));
    const before = await rows();
    const shift = await shifted(page);
    await writer.close();
    await sql.query(
      "update step set outcome = 'failure', status = 'exit status 2', ended_at = now() where attempt_id = $1 and name = 'test'",
      [build?.attempt],
    );
    bus.publish(`build:${build?.id}`);
    await page.waitForSelector(".log-over .row.hit >> text=expected 3, got 4");
    expect(await rows()).toEqual(before);
    expect(await shifted(page)).toBe(shift);
    expect(await page.locator(".log-over .row").last().innerText()).toContain("make: leaving");
    await page.getByRole("button", { name: "Close" }).click();
    expect(await page.locator(".log-over").count()).toBe(0);
    await sql.query(
      "update step set outcome = null, status = null, ended_at = null where attempt_id = $1 and name = 'test'",
      [build?.attempt],
    );
  });

test("a failed build's log shows the first marked line; f, w and n work wherever the focus is", async () => {
  await using page = await open(`/b/${web.seeded.failed}`);
  await page.waitForSelector(".log-box .row.hit[data-line='1291']");
  expect(await page.locator(".log-box .row").first().getAttribute("data-line")).not.toBe("1296");
  await page.keyboard.press("w");
  await page.waitForSelector(".log-box.wrap");
  await page.keyboard.press("n");
  await page.waitForSelector(".log-box .row.sel[data-line='1291']");
  await page.keyboard.press("n");
  await page.waitForSelector(".log-box .row.sel[data-line='1295']");
  await page.keyboard.press("f");
  await page.waitForSelector(".log-box .row >> text=make: leaving directory");
  expect(await page.locator(".log-bar button[aria-pressed='true']").allInnerTexts()).toEqual(["Wrap"]);
});

test("the grid is one stop of the Tab key, and arrows go on from there", async () => {
  await using page = await open("/p/app");
  expect(await page.locator(".grid tbody a[tabindex='0']").count()).toBe(1);
  expect(await page.locator(".grid tbody a:not([tabindex])").count()).toBe(0);
  await page.locator(".grid tbody a[tabindex='0']").focus();
  await page.keyboard.press("ArrowDown");
  expect(await page.locator(".grid tbody [tabindex='0']").count()).toBe(1);
});

test("a log of five million lines is reached everywhere, and holds only what is in sight", async () => {
  const lines = 5_000_000;
  await using page = await open("/login");
  await page.route("**/b/*/test/lines?**", async (route) => {
    const query = new URL(route.request().url()).searchParams;
    const from = Number(query.get("from"));
    const count = Math.min(Number(query.get("count")), lines - from + 1);
    await route.fulfill({
      json: {
        from,
        total: lines,
        length: lines * 100,
        ended: true,
        truncated: false,
        lines: Array.from({ length: count }, (_, i) => `huge ${from + i}`),
      },
    });
  });
  await page.goto(`${at}/b/${web.seeded.failed}/test#L4321000`);
  await page.waitForSelector("html[data-ready=yes]");
  await page.waitForFunction(() => document.querySelector(".log-bar")?.textContent?.includes("5,000,000 lines"));
  await page.evaluate(() => dispatchEvent(new HashChangeEvent("hashchange")));
  await page.waitForSelector(".row.sel >> text=/^huge 4321000$/");
  await page.locator(".log-box").hover();
  await page.mouse.wheel(0, 100);
  await page.waitForSelector(".row >> text=/^huge 4321020$/");
  await page.locator(".log-box").focus();
  await page.keyboard.press("End");
  await page.waitForSelector(".row >> text=/^huge 5000000$/");
  await page.locator(".log-box").evaluate((box) => box.scrollTo(0, box.scrollHeight / 2));
  await page.waitForSelector(".row >> text=/^huge 2[45]\\d{5}$/");
  expect(await page.locator(".log-box .row").count()).toBeLessThan(60);
});

test("keys: / searches, ? lists, g m goes, j walks rows, n finds the next failure", async () => {
  await using page = await open("/machines");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("attic");
  await page.keyboard.press("k");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("macmini");
  await page.keyboard.press("?");
  expect(await page.locator("dialog#keys").isVisible()).toBe(true);
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("search");
  await page.keyboard.type("gm");
  await page.keyboard.press("Escape");
  await page.keyboard.press("g");
  await page.keyboard.press("g");
  await page.waitForURL("**/p/app");
  await page.waitForSelector("html[data-ready=yes]");
  await page.keyboard.press("n");
  expect(await page.evaluate(() => document.activeElement?.closest("td")?.className)).toBe("no");
});

test("the operator logs in, drains a machine by its button, and logs out; the theme is kept", async () => {
  await using page = await open("/machines/riverboard");
  await page.getByRole("link", { name: "Log in" }).click();
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("This is neither the operator token nor a token of a user.").waitFor();
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/machines/riverboard");
  await page.getByLabel("why (shown to everybody)").fill("new disk");
  await page.getByRole("button", { name: "Drain" }).click();
  await page.waitForURL("**/machines/riverboard");
  expect(web.done).toContain(`drain machine ${web.seeded.machine.id} new disk operator`);
  await page.getByLabel("Switch between light and dark").click();
  await page.waitForSelector("html[data-theme=dark]");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("link", { name: "Log in" }).waitFor();
  expect(await page.locator("html").getAttribute("data-theme")).toBe("dark");
});

test("without script everything can be read, and links lead on", async () => {
  await using page = await open("/", { javaScriptEnabled: false });
  expect(await text(page, "#pools")).toContain(
    "macmini (203.0.113.5:40500) version 29, host-darwin-arm64-shelf: connected 2d 0h, working for",
  );
  await page.goto(`${at}/b/${web.seeded.failed}`);
  expect(await text(page, ".why")).toContain("expected 3, got 4");
  expect(await text(page, ".log-box")).toContain("make: leaving directory");
  expect(await page.getByRole("button", { name: "Wrap" }).count()).toBe(0); // it would do nothing
  await page.getByRole("link", { name: "earlier lines" }).click();
  await page.waitForSelector(".log-box #L197");
  expect(await page.getByRole("link", { name: "later lines" }).count()).toBe(1);
  await page.goto(`${at}/p/app`);
  expect(await page.locator(".grid td").count()).toBeGreaterThan(200);
  await page.locator(`#c${web.seeded.hashes[0]?.slice(0, 12)} th .hash`).click();
  expect(await text(page, "#builders")).toContain("linux-amd64");
});

const everyPage = (): string[] => {
  const s = web.seeded;
  return [
    "/",
    "/builders",
    "/p/app",
    `/p/app/${s.hashes[1]}`,
    `/b/${s.failed}`,
    `/b/${s.waiting}`,
    `/b/${s.skipped}`,
    `/p/app/${s.hashes[3]}`,
    "/machines",
    "/machines/riverboard",
    "/queues",
    "/status",
    "/search?q=parser",
    "/login",
    "/nowhere",
  ];
};

test("every page fits 390 pixels", async () => {
  await using page = await open("/login", { viewport: { width: 390, height: 844 } });
  for (const path of everyPage()) {
    await page.goto(at + path);
    await page.waitForSelector("html[data-ready=yes]");
    expect([path, await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)]).toEqual([path, true]);
  }
});

test("on 390 pixels no list has to be scrolled sideways, whatever its names", async () => {
  const { sql } = web.database;
  const [commit] = await sql.query<{ id: number; message: string }>(
    "update commit set message = repeat('endless ', 25) where hash = $1 returning id",
    [web.seeded.hashes[0]],
  );
  await using page = await open("/login", { viewport: { width: 390, height: 844 } });
  for (const path of [
    "/",
    "/builders",
    "/queues",
    "/status",
    "/machines/riverboard",
    `/p/app/${web.seeded.hashes[1]}`,
    `/b/${web.seeded.retried}`,
  ]) {
    await page.goto(at + path);
    await page.waitForSelector("html[data-ready=yes]");
    const over = await page.evaluate(() =>
      [...document.querySelectorAll(".scroll")].map((box) => box.scrollWidth - box.clientWidth),
    );
    expect([path, Math.max(0, ...over)]).toEqual([path, 0]);
  }
  await sql.query("update commit set message = 'Fix the parser, part 29' where id = $1", [commit?.id]);
});

/** A farm that is drained, a machine set aside, another whose owner was told; `over`: as it was. */
async function trouble(over: "" | "over"): Promise<void> {
  const { sql } = web.database;
  await sql.query("delete from trouble");
  if (over) {
    await sql.query("update farm set drained_at = null, drain_note = null");
    await sql.query("update machine set set_aside_at = null, probed_at = null, probe_error = null");
    return;
  }
  await sql.query("update farm set drained_at = now(), drain_note = 'upgrade at noon'");
  await sql.query(
    `update machine set set_aside_at = now() - interval '1 hour', set_aside_until = now() + interval '10 minutes',
       set_aside_reason = '3 attempts in a row failed on it; the last: machine gone: it closed the connection in the middle of a command',
       probed_at = now(), probe_error = 'emptying its work folder: disk full' where name in ('shed-2', 'riverboard')`,
  );
  await sql.query(
    `insert into trouble (kind, subject, since, noticed_at, told_at, about)
     select 'missing', 'machine:' || m.id, now(), now(), now(), '{}' from machine m
     where not exists (select from session where machine_id = m.id and closed_at is null)`,
  );
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing on any page, ${colorScheme}`, async () => {
    await using page = await open("/login", { colorScheme, bypassCSP: true });
    web.checks.push({
      id: "pinecone",
      title: "pinecone",
      notes: "https://example.org",
      lines: [
        { level: "warn", text: "missing" },
        { level: "error", text: "twice" },
      ],
    });
    web.banners.push({ summary: "The configuration has mistakes", detail: "repos: none\nhosts: none" });
    await trouble("");
    for (const path of everyPage()) {
      await page.goto(at + path);
      await page.waitForSelector("html[data-ready=yes]");
      await page.evaluate(axe.source);
      // Only colours differ between the two.
      const rules = colorScheme === "dark" ? { runOnly: ["color-contrast", "link-in-text-block"] } : {};
      const found = await page.evaluate(async (rules) => {
        const { axe } = window as unknown as {
          axe: {
            run(
              options: object,
            ): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
          };
        };
        const { violations } = await axe.run(rules);
        return violations.map(
          (v) => `${v.id}: ${v.nodes.length} ${v.nodes[0]?.html.slice(0, 200)} ${v.nodes[0]?.failureSummary}`,
        );
      }, rules);
      expect([path, ...found]).toEqual([path]);
    }
    await trouble("over");
    web.checks.length = 0;
    web.banners.length = 0;
  }, 60_000);
}

test("no page complained in the browser's console", () => {
  expect(browser.complaints).toEqual([]);
});
