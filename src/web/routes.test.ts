/** What is not a page: logs by bytes and by lines, live events, the operator's actions, the grid's rows. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import type { LogWriter } from "../logs/writer.ts";
import { emptyLog } from "../store/logs.ts";
import { LINE_LIMIT } from "./log-lines.ts";
import { type TestWeb, TOKEN, testWeb } from "./testing/web.ts";
import { whyLines } from "./why.ts";

let web: TestWeb;
beforeAll(async () => {
  web = await testWeb();
});
afterAll(() => web[Symbol.asyncDispose]());

/** A step `big` of the running build with a log of its own, to write to. */
async function step(name: string): Promise<{ writer: LogWriter; base: string }> {
  const id = await web.logs.create();
  const { sql } = web.database;
  await sql.query(
    `insert into step (attempt_id, number, name, log_id, started_at)
     select id, (select max(number) + 1 from step where attempt_id = attempt.id), $2, $3, now() from attempt where build_id = $1`,
    [web.seeded.running, name, id],
  );
  return { writer: web.logs.writer(emptyLog(id, 0)), base: `/b/${web.seeded.running}/${name}` };
}

/** The messages of a stream of events. */
async function* messages(response: Response): AsyncGenerator<string, void, undefined> {
  let text = "";
  for await (const chunk of response.body ?? []) {
    const all = (text + Buffer.from(chunk).toString()).split("\n\n");
    text = all.pop() ?? "";
    yield* all;
  }
}

const lines = async (base: string, from: number, count: number) =>
  (await (await web.get(`${base}/lines?from=${from}&count=${count}`)).json()) as {
    total: number;
    from: number;
    lines: string[];
    ended: boolean;
  };

describe("logs", () => {
  test("raw bytes come back as they were, whole and by Range, under a policy that runs nothing", async () => {
    const { writer, base } = await step("raw");
    const bytes = Buffer.concat([
      Buffer.from([0, 255, 254, 13, 10]),
      Buffer.from("<script>x</script>\n"),
      Buffer.alloc(300_000, 0x80),
    ]);
    await writer.write(bytes);
    await writer.close();
    const whole = await web.get(`${base}/log`);
    expect([whole.status, whole.headers.get("content-type"), whole.headers.get("content-length")]).toEqual([
      200,
      "text/plain; charset=utf-8",
      String(bytes.length),
    ]);
    expect(whole.headers.get("content-security-policy")).toContain("sandbox");
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true);
    const range = async (value: string): Promise<unknown[]> => {
      const r = await web.get(`${base}/log`, { headers: { range: value } });
      return [r.status, r.headers.get("content-range"), (await r.arrayBuffer()).byteLength];
    };
    const all = bytes.length;
    expect(await range("bytes=5-9")).toEqual([206, `bytes 5-9/${all}`, 5]);
    expect(await range("bytes=300000-")).toEqual([206, `bytes 300000-${all - 1}/${all}`, all - 300_000]);
    expect(await range("bytes=-3")).toEqual([206, `bytes ${all - 3}-${all - 1}/${all}`, 3]);
    expect(await range(`bytes=${all}-`)).toEqual([416, `bytes */${all}`, 0]);
    expect(await range("bytes=9-5")).toEqual([200, null, all]);
    expect((await web.get(`${base}/log?attempt=7`)).status).toBe(404);
    expect((await web.get(`${base}x/log`)).status).toBe(404);
  });

  test("follow=1 gives what is there and what comes, and ends with the log", async () => {
    const { writer, base } = await step("follow");
    await writer.write(Buffer.from("one\n"));
    const response = await web.get(`${base}/log?follow=1`, { headers: { range: "bytes=1-" } });
    expect(response.status).toBe(206);
    const reader = (response.body ?? new ReadableStream()).getReader();
    let got = "";
    const until = async (wanted: string): Promise<void> => {
      while (got !== wanted) {
        const { done, value } = await reader.read();
        if (done) break;
        got += Buffer.from(value).toString();
      }
      expect(got).toBe(wanted);
    };
    await until("ne\n");
    await writer.write(Buffer.from("two\n"));
    await until("ne\ntwo\n");
    await writer.close();
    expect((await reader.read()).done).toBe(true);
  });

  test("lines are cut where they are endless, counted from 1, and the last may lack its LF", async () => {
    const { writer, base } = await step("lines");
    for (let i = 1; i <= 5000; i++) await writer.write(Buffer.from(`line ${i}\n`));
    await writer.write(Buffer.alloc(3_000_000, "x"));
    await writer.write(Buffer.from("\nafter\nunfinished"));
    await writer.close();
    expect(await lines(base, 4999, 2)).toMatchObject({
      from: 4999,
      total: 5003,
      ended: true,
      lines: ["line 4999", "line 5000"],
    });
    const late = await lines(base, 5000, 100);
    expect(late.lines.map((line) => line.length > LINE_LIMIT)).toEqual([false, true, false, false]);
    expect(late.lines[1]).toMatch(/^x{4096} … \(over a million bytes in this line\)$/);
    expect(late.lines.slice(2)).toEqual(["after", "unfinished"]);
    expect((await lines(base, 6000, 10)).lines).toEqual([]);
    expect((await lines(base, 1, 1_000_000)).lines).toHaveLength(2000);
  });

  test("an empty log has no lines", async () => {
    const { writer, base } = await step("empty");
    await writer.close();
    expect(await lines(base, 1, 10)).toMatchObject({ total: 0, lines: [] });
  });

  test("followed, lines come as they are written, an unfinished one again, and the stream ends with the log", async () => {
    const { writer, base } = await step("followed");
    await writer.write(Buffer.from("one\ntw"));
    const streams = await Promise.all([1, 2].map((from) => web.get(`${base}/follow?from=${from}`)));
    const ears = streams.map((stream) => messages(stream));
    const told = async (): Promise<unknown[]> =>
      Promise.all(
        ears.map(async (ear) => {
          for (;;) {
            const [id = "", event = "", data = ""] = ((await ear.next()).value ?? "id: end").split("\n");
            if (id === "id: end") return "end";
            const seen = event === "event: lines" ? JSON.parse(data.slice(6)).lines : []; // none while nothing is stored
            if (seen.length > 0) return [Number(id.slice(4)), seen];
          }
        }),
      );
    expect(await told()).toEqual([
      [2, ["one", "tw"]],
      [2, ["tw"]],
    ]);
    await writer.write(Buffer.from("o\n"));
    expect(await told()).toEqual([
      [3, ["two"]],
      [3, ["two"]],
    ]);
    const again = await web.get(`${base}/follow?from=1`, { headers: { "last-event-id": "2" } });
    await writer.write(Buffer.from(Array.from({ length: 1000 }, (_, i) => `${i + 3}\n`).join("")));
    await writer.close();
    // Who is further behind than a block gets the last one.
    const [[next, last], other] = (await told()) as [[number, string[]], unknown];
    expect([next, last[0], last.length, other]).toEqual([1003, "769", 234, [1003, last]]);
    expect(await told()).toEqual(["end", "end"]);
    expect(await again.text()).toMatch(/^retry: 2000\n\nid: \d+\nevent: lines\ndata: .*\n\n$/s);
  });

  test("find counts lines as people see them, whatever the case, and over pieces", async () => {
    const base = `/b/${web.seeded.failed}/test`;
    const find = async (q: string): Promise<unknown> =>
      (await web.get(`${base}/find?q=${encodeURIComponent(q)}`)).json();
    expect(await find("ERROR")).toEqual({ count: 2, lines: [1291, 1295], complete: true });
    expect(await find("✓ suite 3")).toMatchObject({ count: 4 }); // 3, 30, 31, 32: over the colour between
    expect(await find("[32m")).toEqual({ count: 0, lines: [], complete: true });
    expect((await web.get(`${base}/find?q=`)).status).toBe(400);
  });
});

describe("events", () => {
  async function listen(topics: string): Promise<{ next(): Promise<string>; stop(): Promise<void> }> {
    const response = await web.get(`/events?${topics}`);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream; charset=utf-8"]);
    const reader = (response.body ?? new ReadableStream()).getReader();
    let text = "";
    const next = async (): Promise<string> => {
      while (!text.includes("\n\n")) {
        const { done, value } = await reader.read();
        if (done) return "end";
        text += Buffer.from(value).toString();
      }
      const at = text.indexOf("\n\n");
      const message = text.slice(0, at);
      text = text.slice(at + 2);
      return message;
    };
    expect(await next()).toBe("retry: 2000");
    return { next, stop: () => reader.cancel() };
  }

  test("carry the topics asked for, the first at once, further ones gathered", async () => {
    const ear = await listen("t=build:1&t=machine:");
    const { bus } = web.database;
    bus.publish("build:12"); // somebody else's
    bus.publish("build:1");
    bus.publish("machine:5");
    bus.publish("build:1");
    expect(await ear.next()).toBe('id: 1\nevent: change\ndata: ["build:1"]');
    expect(await ear.next()).toBe('id: 2\nevent: change\ndata: ["machine:","build:1"]');
    await ear.stop();
  });

  test("tell at once what was published since a page was asked for", async () => {
    const { bus } = web.database;
    await new Promise((later) => setTimeout(later, 1100)); // what was published before is past the skew of clocks
    const page = (await (await web.get("/queues?format=json")).json()) as { askedAt: number };
    bus.publish("build:77");
    bus.publish("queue:somewhere");
    const ear = await listen(`t=build:1&t=queue:&since=${page.askedAt}`);
    expect(await ear.next()).toBe('id: 1\nevent: change\ndata: ["queue:"]');
    await ear.stop();
    const silent = await listen("t=build:1&t=queue:");
    bus.publish("build:1");
    expect(await silent.next()).toBe('id: 1\nevent: change\ndata: ["build:1"]');
    await silent.stop();
  });

  test("beat, so that nothing between hangs up", async () => {
    const clock = new FakeClock();
    await using other = await testWeb({ clock, empty: true });
    const response = await other.get("/events?t=farm:");
    const reader = (response.body ?? new ReadableStream()).getReader();
    await reader.read();
    while (clock.sleeping === 0) await new Promise((next) => setImmediate(next));
    await clock.advance(seconds(15) as Ms);
    expect(new TextDecoder().decode((await reader.read()).value)).toBe(": still here\n\n");
    await reader.cancel();
  });

  test("refuse what is no topic", async () => {
    for (const bad of ["", "t=", "t=x", "t=a%0Ab:", `t=${"a:&t=".repeat(70)}a:`])
      expect((await web.get(`/events?${bad}`)).status).toBe(400);
  });
});

describe("the operator", () => {
  const bearer = { authorization: `Bearer ${TOKEN}`, accept: "application/json" };
  const post = (
    path: string,
    headers: Record<string, string> = {},
    body: Record<string, string> = {},
  ): Promise<Response> => web.get(path, { method: "POST", headers, body: new URLSearchParams(body) });

  async function cookie(): Promise<string> {
    const response = await post("/login", { origin: "http://farm.test" }, { token: TOKEN, back: "/b/1" });
    expect([response.status, response.headers.get("location")]).toEqual([303, "/b/1"]);
    const set = response.headers.get("set-cookie") ?? "";
    expect(set).toMatch(/^barnraiser_operator=[^;]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Strict$/);
    expect(set).not.toContain(TOKEN);
    return set.split(";")[0] ?? "";
  }

  test("may do everything from the command line, and is told what was done", async () => {
    web.done.length = 0;
    const answers: unknown[] = [];
    const { id, hostType } = web.seeded.machine;
    for (const [path, body] of [
      ["/b/12/rebuild", {}],
      ["/b/11/rebuild", {}],
      ["/b/10/rebuild", {}],
      ["/b/12/cancel", {}],
      ["/machines/riverboard/drain", { note: "new disk" }],
      [`/machines/${web.seeded.machine.id}/resume`, {}],
      ["/named/riverboard/resume", {}],
      [`/hosts/${hostType}/drain`, { note: "heat" }],
      [`/named/${hostType}/resume`, {}],
      ["/machines/riverboard/readmit", {}],
      ["/farm/drain", { note: "upgrade" }],
      ["/farm/resume", {}],
      ["/coordinator/drain", { note: "new version" }],
      ["/coordinator/resume", {}],
      ["/keys/K1/revoke", {}],
    ] as const) {
      const response = await post(path, bearer, body);
      answers.push([response.status, ((await response.json()) as { message: string }).message]);
    }
    expect(answers).toEqual([
      [200, "build 12 is built once more as build 13"],
      [200, "build 11 is being built once more already, as build 12: nothing new is begun"],
      [200, "build 10 has not ended: nothing new is begun"],
      [200, "build 12 is canceled"],
      [200, "machine riverboard takes nothing new"],
      [200, `machine ${web.seeded.machine.id} takes work again`],
      [200, "machine riverboard takes work again"],
      [200, `machines of ${hostType} take nothing new`],
      [200, `machines of ${hostType} take work again`],
      [200, "machine riverboard is not set aside any more"],
      [200, "the farm takes nothing new"],
      [200, "the farm takes work again"],
      [200, "machines of this coordinator take nothing new until it is started again"],
      [200, "machines of this coordinator take work again"],
      [200, "key K1 is revoked"],
    ]);
    expect(web.done).toEqual([
      "rebuild 12 operator",
      "rebuild 11 operator",
      "rebuild 10 operator",
      "cancel 12 operator",
      `drain machine ${id} new disk operator`,
      `resume machine ${id} operator`,
      `resume machine ${id} operator`,
      `drain hostType ${hostType} heat operator`,
      `resume hostType ${hostType} operator`,
      `readmitMachine ${id} operator`,
      "drain farm upgrade operator",
      "resume farm operator",
      `drain coordinator P000000001 new version operator`,
      `resume coordinator P000000001 operator`,
      "revokeKey K1 operator",
    ]);
    expect(await (await post("/b/999999/rebuild", bearer)).json()).toEqual({
      error: "Cannot rebuild 999999: there is no such build",
    });
  });

  test("is told which name was probably meant, of a machine, of a host type, and of either", async () => {
    const { hostType } = web.seeded.machine;
    const refused = async (path: string) => {
      const response = await post(path, bearer);
      return [response.status, ((await response.json()) as { error: string }).error];
    };
    expect([
      await refused("/machines/riverbord/drain"),
      await refused("/hosts/host-linux-riscv46-lent/drain"),
      await refused("/named/Riverboard/resume"),
      await refused("/named/nobody/drain"),
      await refused(`/machines/${hostType}/drain`),
      await refused("/hosts/riverboard/drain"),
    ]).toEqual([
      [404, 'Cannot find machine "riverbord"; did you mean "riverboard"?'],
      [404, `Cannot find host type "host-linux-riscv46-lent"; did you mean "${hostType}"?`],
      [404, 'Cannot find machine or host type "Riverboard"; did you mean "riverboard"?'],
      [404, 'Cannot find machine or host type "nobody"'],
      [404, `Cannot find machine "${hostType}"; it is a host type`],
      [404, 'Cannot find host type "riverboard"; it is a machine'],
    ]);
  });

  test("is told how many machines are at work where something is drained", async () => {
    const running = async (query: string) => (await web.get(`/running?${query}`)).json();
    expect(await running("farm=")).toEqual({ running: 3 });
    expect(await running("coordinator=")).toEqual({ running: 3 });
    expect(await running("machines=riverboard")).toEqual({ running: 1 });
    expect(await running("named=riverboard")).toEqual({ running: 1 });
    expect((await web.get("/running?hosts=host-that-nobody-has")).status).toBe(404);
    expect((await web.get("/running?machines=nobody")).status).toBe(404);
  });

  test("logs in with the token, sees the buttons, and goes to the new build", async () => {
    const own = { cookie: await cookie(), origin: "http://farm.test" };
    expect(await (await web.get(`/b/${web.seeded.failed}`, { headers: own })).text()).toContain(
      `action="/b/${web.seeded.failed}/rebuild"`,
    );
    expect(await (await web.get(`/b/${web.seeded.failed}`)).text()).not.toContain("/rebuild");
    const response = await post(`/b/${web.seeded.failed}/rebuild`, own);
    expect([response.status, response.headers.get("location")]).toEqual([303, `/b/${web.seeded.failed + 1}`]);
  });

  test("is nobody else: no cookie, a foreign page, a forged or old cookie, a GET", async () => {
    web.done.length = 0;
    const own = await cookie();
    const forged = own.replace(/=(\d+)\./, (_, n) => `=${Number(n) + 1}.`);
    const status = async (headers: Record<string, string>): Promise<number> =>
      (await post("/b/12/cancel", headers)).status;
    expect(await status({})).toBe(401);
    expect(await status({ cookie: own })).toBe(403); // no Origin at all
    expect(await status({ cookie: own, origin: "https://evil.example" })).toBe(403);
    expect(await status({ cookie: own, origin: "null" })).toBe(403);
    expect(await status({ cookie: forged, origin: "http://farm.test" })).toBe(401);
    expect(await status({ cookie: "barnraiser_operator=x", origin: "http://farm.test" })).toBe(401);
    expect(await status({ authorization: "Bearer wrong" })).toBe(401);
    expect((await web.get("/b/12/cancel", { headers: { cookie: own } })).status).toBe(404);
    expect(web.done).toEqual([]);
  });

  test("a cookie ends after a month", async () => {
    const clock = new FakeClock();
    await using other = await testWeb({ clock, empty: true });
    const response = await other.get("/login", {
      method: "POST",
      headers: { origin: "http://farm.test" },
      body: new URLSearchParams({ token: TOKEN }),
    });
    const headers = { cookie: response.headers.get("set-cookie")?.split(";")[0] ?? "", origin: "http://farm.test" };
    const tried = async (): Promise<number> => (await other.get("/b/12/cancel", { method: "POST", headers })).status;
    expect(await tried()).toBe(303);
    await clock.advance(seconds(31 * 86_400));
    expect(await tried()).toBe(401);
  });

  test("ten wrong tokens a minute are enough, then even the right one waits", async () => {
    const clock = new FakeClock();
    await using other = await testWeb({ clock, empty: true });
    const login = async (token: string): Promise<number> =>
      (
        await other.get("/login", {
          method: "POST",
          headers: { origin: "http://farm.test" },
          body: new URLSearchParams({ token }),
        })
      ).status;
    for (let i = 0; i < 10; i++) expect(await login(`guess ${i}`)).toBe(403);
    expect(await login(TOKEN)).toBe(429);
    await clock.advance(seconds(61));
    expect(await login(TOKEN)).toBe(303);
  });

  test("is never sent elsewhere after logging in", async () => {
    for (const back of ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]) {
      const response = await post("/login", { origin: "http://farm.test" }, { token: TOKEN, back });
      expect(response.headers.get("location")).toBe("/");
    }
  });
});

describe("the grid", () => {
  interface Rows {
    order: [string, string][];
    html: Record<string, string>;
  }
  const rows = async (query: string): Promise<Rows> => (await (await web.get(`/p/app/rows?${query}`)).json()) as Rows;

  test("gives a browser only the rows that it does not have", async () => {
    const first = await rows("");
    expect(first.order).toHaveLength(31);
    expect(Object.keys(first.html)).toHaveLength(31);
    const have = first.order.map(([, version]) => version).join(".");
    expect((await rows(`have=${have}`)).html).toEqual({});
    await web.database.sql.query(
      "update build set state = 'ended', outcome = 'canceled', ended_at = now() where id = $1",
      [web.seeded.waiting],
    );
    const changed = await rows(`have=${have}`);
    expect(Object.keys(changed.html)).toEqual([first.order[1]?.[0]]);
    expect(Object.values(changed.html)[0]).toContain(
      `<td class=ca><a href=/b/${web.seeded.waiting} aria-label="canceled">⊘</a></td>`,
    );
  });

  test("says success, failure, flaky, known issue, infra failure and running; a failing builder's streak is counted", async () => {
    const grid = (await (await web.get("/p/app?mode=json")).json()) as {
      builders: string[];
      revisions: { statuses: string[] }[];
    };
    expect(grid.builders).toEqual([
      "linux-386",
      "linux-amd64",
      "linux-amd64-race",
      "linux-riscv64",
      "darwin-arm64",
      "darwin-arm64-longtest",
      "freebsd-amd64",
    ]);
    expect(grid.revisions.slice(0, 4).map((r) => r.statuses[1])).toEqual(["running", "failure", "failure", "failure"]);
    expect(grid.revisions[2]?.statuses[0]).toBe("flaky");
    expect(grid.revisions[1]?.statuses[6]).toBe("known_issue");
    expect(await (await web.get("/p/app")).text()).toContain('aria-label="failure for 3 commits, red since ');
  });

  test("[coordinator 80] as JSON it has a result for each builder in each row", async () => {
    const { builders, revisions } = (await (await web.get("/p/app?mode=json")).json()) as {
      builders: string[];
      revisions: { results: string[] }[];
    };
    expect(new Set(revisions.map(({ results }) => results.length))).toEqual(new Set([builders.length]));
  });

  test("filters by builder globs, failing builders, author and branch, all in the address", async () => {
    const builders = async (query: string): Promise<string[]> =>
      ((await (await web.get(`/p/app?mode=json&${query}`)).json()) as { builders: string[] }).builders;
    expect(await builders("builders=darwin-*")).toEqual(["darwin-arm64", "darwin-arm64-longtest"]);
    expect(await builders("builders=*,!linux-*")).toEqual(["darwin-arm64", "darwin-arm64-longtest", "freebsd-amd64"]);
    expect(await builders("failing=1")).toContain("linux-amd64");
    expect(await builders("failing=1")).not.toContain("linux-amd64-race");
    const html = await (await web.get("/p/app?author=nobody")).text();
    expect(html).toContain("Nothing matches this filter.");
  });

  test("a cell leads to its newest build, and says more in JSON", async () => {
    const hash = web.seeded.hashes[1];
    const cell = await web.get(`/p/app/${hash}/linux-amd64`);
    expect([cell.status, cell.headers.get("location")]).toEqual([302, `/b/${web.seeded.failed}`]);
    expect(await (await web.get(`/p/app/${hash}/linux-amd64?format=json`)).json()).toMatchObject({
      id: web.seeded.failed,
      status: "failure",
      step: "test",
      machine: "shed-1",
      last: ["<b>not markup</b> & ⟨U+202E⟩right to left", "make: *** [test] Error 2", "make: leaving directory"],
    });
    expect((await web.get(`/p/app/${hash}/windows-amd64`)).status).toBe(404);
    expect((await web.get(`/p/app/${hash?.slice(0, 10)}`)).status).toBe(200);
  });
});

test("whyLines() marks what looks like the reason and brings it up from further above", () => {
  const text = [...Array.from({ length: 50 }, (_, i) => `line ${i + 1}`), "", ""];
  text[19] = "x.c:3: error: undefined reference";
  text[20] = "0 errors so far";
  const why = whyLines(text, 101);
  expect(why.map((line) => line.line)).toEqual([120, 141, 142, 143, 144, 145, 146, 147, 148, 149, 150]);
  expect(why.filter((line) => line.marked).map((line) => line.line)).toEqual([120]);
  const marker = `##barnraiser:${"0a".repeat(16)} pass t1`;
  expect(whyLines(["error: no", marker], 7).map((line) => line.line)).toEqual([7]); // a marker says nothing of a test
  const behind = whyLines([`assertion failed${marker}`], 7);
  expect(behind).toEqual([{ line: 7, text: "assertion failed", marked: true }]);
  expect(whyLines([], 1)).toEqual([]);
});
