/** Pages of borrowed machines: who sees what, what they say, and what their buttons do. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildId, minutes, plus, seconds } from "../farm/ids.ts";
import { cancelBuild } from "../store/builds.ts";
import { commandBegan, commandEnded } from "../store/gomote-commands.ts";
import { deleteRecordings, recordingBegan } from "../store/recordings.ts";
import { systemClock } from "../store/system-clock.ts";
import type { GomoteCommandData } from "../ui/pages/gomote-command.tsx";
import { LENT_TYPE, type Lent, lend } from "./testing/lent.ts";
import { type TestWeb, TOKEN, testWeb } from "./testing/web.ts";

let web: TestWeb;
let lent: Lent;

beforeAll(async () => {
  web = await testWeb();
  lent = await lend(web);
});
afterAll(() => web?.[Symbol.asyncDispose]());

type Who = keyof Lent["tokens"] | "token" | undefined;

function headers(who: Who): Record<string, string> {
  const bearer = who === "token" ? TOKEN : who === undefined ? undefined : lent.tokens[who];
  return { accept: "application/json", ...(bearer && { authorization: `Bearer ${bearer}` }) };
}

async function ask(who: Who, path: string, init: RequestInit = {}) {
  const answer = await web.get(path, { ...init, headers: { ...headers(who), ...init.headers } });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

const post = (who: Who, path: string, form: Record<string, string> = {}) =>
  ask(who, path, { method: "POST", body: new URLSearchParams(form) });

test("/gomotes shows mine with what runs, what waits with its place, types that I may borrow; others' to operators and owners", async () => {
  const data = async (who: Who) => {
    const { page, frame } = (await ask(who, "/gomotes")).body as {
      page: {
        data: { who: object | null; mine: object[]; others: { of: string; lines: object[] } | null; types: object[] };
      };
      frame: { gomotes: boolean };
    };
    return { ...page.data, nav: frame.gomotes };
  };
  const alice = await data("alice");
  expect(alice).toMatchObject({ who: { kind: "person" }, others: null, nav: true });
  expect(alice.mine).toMatchObject([
    { name: lent.name, state: "up", machine: { name: "lent-0" }, running: { command: "sleep 600", more: 0 } },
  ]);
  expect(alice.types).toContainEqual({ name: LENT_TYPE, hostType: LENT_TYPE, machines: 1, idle: 0 });
  expect((await data("bob")).mine).toMatchObject([{ name: `bob-${LENT_TYPE}-0`, state: "waiting", ahead: 0 }]);
  const operator = await data("operator");
  expect([operator.mine, operator.others?.of, operator.others?.lines.length]).toEqual([[], "everybody", 2]);
  const token = await data("token");
  expect([token.who, token.types, token.others?.lines.length]).toEqual([{ kind: "operator" }, [], 2]);
  expect((await data("keeper")).others).toMatchObject({
    of: "my machines",
    lines: [{ name: lent.name }, { name: `bob-${LENT_TYPE}-0` }],
  });
  expect(await data(undefined)).toMatchObject({ who: null, mine: [], others: null, types: [], nav: false });
});

test("pages lead to /gomotes whoever may borrow something or could become a user by logging in, and operators", async () => {
  const { config } = web;
  const nav = async (who: Who) => ((await ask(who, "/queues")).body.frame as { gomotes: boolean }).gomotes;
  const all = async () => [await nav(undefined), await nav("alice"), await nav("operator"), await nav("token")];
  expect(await all()).toEqual([false, true, true, true]);
  const provider = { issuer: "https://id.example.org", clientId: "farm", name: "Example" };
  const login = { ...provider, clientSecret: { env: "SECRET" }, allow: [], roles: [] };
  web.config = { ...config, login };
  expect(await all()).toEqual([true, true, true, true]);
  web.config = { ...config, login, hosts: config.hosts.map((host) => ({ ...host, gomote: "nobody" })) };
  expect(await all()).toEqual([false, false, true, true]);
  // An owner without any role lends.
  const lender = await web.people.add("owner0@example.org", [], "test");
  const { token } = await web.people.newToken(lender, "test", seconds(60), "test");
  const asLender = { accept: "application/json", authorization: `Bearer ${token}` };
  const seen = async () =>
    ((await (await web.get("/queues", { headers: asLender })).json()) as { frame: { gomotes: boolean } }).frame.gomotes;
  expect(await seen()).toBe(false);
  web.config = config;
  expect(await seen()).toBe(true);
});

test("an instance's page is for its borrower, its machine's owner and operators; others hear why not", async () => {
  const path = `/gomotes/${lent.name}`;
  const { status, body } = await ask("alice", path);
  expect([status, (body.page as { data: object }).data]).toMatchObject([
    200,
    { use: true, as: "borrower", workingDir: "/home/agent/work", server: "farm.test:8119" },
  ]);
  for (const [who, as] of [
    ["keeper", "owner of the machine"],
    ["operator", "operator"],
    ["token", "operator"],
  ] as const)
    expect((await ask(who, path)).body).toMatchObject({ page: { data: { use: false, as } } });
  expect(await ask("bob", path)).toMatchObject({ status: 403, body: { error: expect.stringContaining("else's") } });
  expect(await ask(undefined, path)).toMatchObject({ status: 401, body: { error: expect.stringContaining("Log in") } });
  expect((await ask("alice", "/gomotes/nobody-x-0")).status).toBe(404);
  const html = await (await web.get(path, { headers: { ...headers("alice"), accept: "text/html" } })).text();
  expect(html).toContain(`gomote -server=farm.test:8119 ssh ${lent.name}`);
  expect(html).toContain(`A shell in the browser needs script; <code>gomote ssh ${lent.name}</code>`);
  const foreign = await web.get(path, { headers: { ...headers("bob"), accept: "text/html" } });
  expect(await foreign.text()).toContain("<h1>This is not shown to you</h1>");
  expect(html).not.toContain("<script>alert");
  expect(html).toMatch(/It ends in <span class="num">2\dm/);
});

test("buttons borrow, destroy and end; each only for those who may, and by a cookie only from our own pages", async () => {
  const path = `/gomotes/${lent.name}`;
  web.done.length = 0;
  expect((await post("alice", "/gomotes", { type: LENT_TYPE })).status).toBe(200);
  expect(await post("alice", "/gomotes")).toMatchObject({ status: 400 });
  expect(await post("token", "/gomotes", { type: LENT_TYPE })).toMatchObject({ status: 403 });
  expect((await post("alice", `${path}/destroy`)).status).toBe(200);
  expect((await post("bob", `${path}/end`)).status).toBe(403);
  expect((await post(undefined, `${path}/end`)).status).toBe(401);
  expect((await post("keeper", `${path}/end`, { note: "I need it" })).status).toBe(200);
  expect((await post("token", `${path}/end`)).status).toBe(200);
  expect(web.done).toEqual([
    `create ${LENT_TYPE} alice@example.org`,
    `destroy ${lent.name} alice@example.org`,
    `end ${lent.id} keeper@example.org: the owner of the machine ended it: I need it`,
    `end ${lent.id} operator: an operator ended it`,
  ]);
  for (const [who, where, status] of [
    [undefined, "files", 401],
    ["token", "download", 403],
  ] as const)
    expect((await ask(who, `${path}/${where}`)).status).toBe(status);
});

interface Commands {
  readonly lines: readonly { readonly id: number; readonly command: string; readonly state: string | null }[];
  readonly next: string | null;
}

test("the machine's page shows its owner and operators who had it and what they ran, and nobody else", async () => {
  const seen = async (who: Who) => {
    const { body } = await ask(who, `/machines/${lent.machine}`);
    return (body.page as { data: { lent: { instances: object[]; commands: Commands } | null } }).data.lent;
  };
  for (const who of ["keeper", "operator", "token"] as const) {
    const shown = await seen(who);
    expect(shown?.instances).toMatchObject([
      { name: lent.name, email: "alice@example.org", state: "up" },
      { name: lent.name, state: "ended", endReason: "its owner destroyed it" },
    ]);
    expect(shown?.commands.lines).toMatchObject([
      { who: "alice@example.org", command: "sleep 600", state: null },
      { state: "exit status 1" },
      { command: "./make.bash", dir: "go/src", state: "ok" },
    ]);
  }
  expect([await seen("alice"), await seen("bob"), await seen(undefined)]).toEqual([null, null, null]);
});

test("what runs comes before what has ended on both pages, however much was run since; the rest is on further ones", async () => {
  const { sql } = web.database;
  const ran = (count: number, state: string | null) =>
    sql.query(
      `insert into gomote_command (instance_id, machine_id, who, command, dir, started_at, ended_at, state)
       select g.id, l.machine_id, 'alice@example.org', 'true', '', now(), case when $2::text is not null then now() end, $2
       from gomote_instance g join lease l on l.id = g.lease_id, generate_series(1, $3::int) where g.id = $1`,
      [lent.id, state, count],
    );
  await ran(201, "ok");
  for (const path of [`/gomotes/${lent.name}`, `/machines/${lent.machine}`]) {
    const page = async (query = "") => {
      const { data } = (await ask("keeper", path + query)).body.page as {
        data: { commands?: Commands; lent?: { commands: Commands } };
      };
      return data.commands ?? data.lent?.commands ?? { lines: [], next: null };
    };
    const all = async () => {
      const lines = [];
      for (let at = await page(); ; at = await page(`?after=${at.next}`)) {
        lines.push(...at.lines);
        if (at.next === null) return lines;
      }
    };
    const [first, ...rest] = await all();
    expect([first?.command, first?.state, rest.length]).toEqual(["sleep 600", null, 203]);
    expect(rest.map(({ id }) => id)).toEqual(rest.map(({ id }) => id).toSorted((a, b) => b - a));
    expect((await page()).lines).toHaveLength(200);
    const html = await web.get(path, { headers: { ...headers("keeper"), accept: "text/html" } });
    expect(await html.text()).toContain(`after=${(await page()).next}#`);
  }
  await ran(250, null);
  const { data } = (await ask("alice", `/gomotes/${lent.name}?after=running-${Number.MAX_SAFE_INTEGER}`)).body.page as {
    data: { commands: Commands };
  };
  expect(data.commands.lines.filter(({ state }) => state === null)).toHaveLength(200);
  const [last] = data.commands.lines.slice(-1);
  expect(data.commands.next).toBe(`running-${last?.id}`);
  const next = (await ask("alice", `/gomotes/${lent.name}?after=${data.commands.next}`)).body.page as typeof data & {
    data: { commands: Commands };
  };
  expect(next.data.commands.lines.filter(({ state }) => state === null).map(({ command }) => command)).toEqual([
    ...Array(50).fill("true"),
    "sleep 600",
  ]);
  await sql.query("delete from gomote_command where command = 'true'");
});

test("whoever sees a command that runs may kill it, by its button on the page on which they are", async () => {
  const { sql } = web.database;
  const [command] = await sql.query<{ id: number }>("select id from gomote_command where ended_at is null");
  const path = `/gomotes/${lent.id}/commands/${command?.id}/kill`;
  for (const page of [`/gomotes/${lent.name}`, `/machines/${lent.machine}`]) {
    const html = await web.get(page, { headers: { ...headers("keeper"), accept: "text/html" } });
    expect((await html.text()).split(`action="${path}"`)).toHaveLength(2);
  }
  web.done.length = 0;
  for (const who of ["alice", "keeper", "token"] as const) expect((await post(who, path)).status).toBe(200);
  expect([(await post("bob", path)).status, (await post(undefined, path)).status]).toEqual([403, 401]);
  expect(web.done).toEqual([
    `kill ${command?.id} of ${lent.name} alice@example.org as borrower`,
    `kill ${command?.id} of ${lent.name} keeper@example.org as owner of the machine`,
    `kill ${command?.id} of ${lent.name} operator as operator`,
  ]);
  const from = `/machines/${lent.machine}?type=${LENT_TYPE}`;
  const answer = await web.get(path, {
    method: "POST",
    headers: { ...headers("keeper"), accept: "text/html", referer: `http://farm.test${from}` },
  });
  expect([answer.status, answer.headers.get("location")]).toEqual([303, from]);
});

test("a machine that is lent is busy, and says as what to whoever is logged in; to whom says only its owner's page", async () => {
  for (const [who, name] of [
    [undefined, null],
    ["bob", lent.name],
  ] as const)
    expect((await ask(who, `/machines?q=${lent.machine}`)).body.page).toMatchObject({
      data: { machines: [{ mode: "busy", build: null, instance: { name } }] },
    });
  const lead = async (who: Who) => {
    const html = await web.get(`/machines/${lent.machine}`, { headers: { ...headers(who), accept: "text/html" } });
    return /<p class="lead">.*?<\/p>/.exec(await html.text())?.[0].replace(/<[^>]*>/g, "");
  };
  expect(await lead(undefined)).toMatch(/^Connected for .* It is lent to somebody\.$/);
  expect(await lead("bob")).toMatch(/^Connected for .* It is lent as alice-host-linux-amd64-lent-0\.$/);
  for (const path of ["/", "/machines", `/machines/${lent.machine}`, "/queues", "/builders", "/status/reverse.json"])
    expect(await (await web.get(path, { headers: headers(undefined) })).text()).not.toMatch(/alice|bob/);
  expect(await lead("keeper")).toMatch(
    / It is lent as alice-host-linux-amd64-lent-0 to alice@example\.org, for 1\dm \d\ds so far\.$/,
  );
  const { body } = await ask("keeper", `/machines/${lent.machine}`);
  expect(body.page).toMatchObject({ data: { mode: "busy", sessions: [{ builds: 0 }] } });
});

test("who asked for a build is told to whoever is logged in", async () => {
  const { sql } = web.database;
  const { waiting } = web.seeded;
  const asked = async (who: Who) =>
    ((await ask(who, `/b/${waiting}`)).body.page as { data: { requestedBy: string | null } }).data.requestedBy;
  for (const [by, shown] of [
    [null, null],
    ["operator", "operator"],
    ["bob@example.org", "a user"],
  ] as const) {
    await sql.query("update build set requested_by = $2 where id = $1", [waiting, by]);
    expect([await asked(undefined), await asked("alice")]).toEqual([shown, by]);
  }
});

test("who canceled a build is told to whoever is logged in, on its page alone", async () => {
  const { sql } = web.database;
  const { running } = web.seeded;
  const [ran] = await sql.query<{ machine: string }>(
    "select m.name as machine from attempt a join machine m on m.id = a.machine_id where a.build_id = $1",
    [running],
  );
  await cancelBuild(sql, buildId(running), "bob@example.org", systemClock.now());
  const reasons = async (who: Who) => {
    const { page } = (await ask(who, `/b/${running}`)).body as {
      page: { data: { build: { reason: string }; attempts: { reason: string }[] } };
    };
    return [page.data.build.reason, ...page.data.attempts.map(({ reason }) => reason)];
  };
  const unnamed = "canceled by a user";
  expect(await reasons(undefined)).toEqual([unnamed, unnamed]);
  expect(await reasons("alice")).toEqual(["canceled by bob@example.org", unnamed]);
  const pages = [`/b/${running}`, `/machines/${ran?.machine}`, "/", "/queues"];
  for (const path of pages) {
    const html = await (await web.get(path, { headers: { accept: "text/html" } })).text();
    expect(html + JSON.stringify((await ask(undefined, path)).body)).not.toContain("bob@");
  }
  const stored = await sql.query(
    `select reason from build where canceled_by is not null union all select reason from attempt where build_id = $1
     union all select l.end_reason from lease l join attempt a on a.lease_id = l.id where a.build_id = $1`,
    [running],
  );
  expect(stored).toEqual(Array(3).fill({ reason: unnamed }));
});

test("whoever is not logged in is led to the page for that, and from there back", async () => {
  const path = `/gomotes/${lent.name}/files?path=a%20b`;
  const answer = await web.get(path);
  expect([answer.status, answer.headers.get("location")]).toEqual([303, `/login?back=${encodeURIComponent(path)}`]);
});

test("the page of a failed build has its machine for whoever may have it, and for nobody else", async () => {
  const { sql } = web.database;
  const { failed, retried: passed } = web.seeded;
  const path = `/b/${failed}`;
  const machineOf = async (who: Who, at = path) =>
    ((await ask(who, at)).body.page as { data: { machine: object | null } }).data.machine;
  for (const who of ["alice", "operator", undefined] as const) expect(await machineOf(who)).toBeNull();
  expect(await post(undefined, `${path}/hold`)).toMatchObject({ status: 401 });
  expect(await post("token", `${path}/hold`)).toMatchObject({ status: 403 });
  expect(await post("alice", `/b/${passed}/hold`)).toMatchObject({ status: 409 });
  expect(await post("alice", "/b/999999/hold")).toMatchObject({ status: 404 });
  const refused = await post("alice", `${path}/hold`);
  expect(refused).toMatchObject({ status: 409, body: { error: expect.stringContaining("it has hung up since") } });
  expect(web.done).toContain(`hold ${failed} alice@example.org`);

  await sql.query("update gomote_instance set build_id = $1 where name = $2", [failed, lent.name]);
  const kept = { kind: "kept", instance: lent.name, email: "alice@example.org", hasShell: true };
  expect(await machineOf("alice")).toEqual({ ...kept, use: true });
  expect(await machineOf("operator")).toEqual({ ...kept, use: false });
  for (const who of ["bob", undefined] as const) expect(await machineOf(who)).toBeNull();
  expect(await machineOf("alice", `/b/${passed}`)).toBeNull();
  const page = async (who: Who) => {
    const answer = await web.get(path, { headers: { ...headers(who), accept: "text/html" } });
    return await answer.text();
  };
  expect(await page("alice")).toContain("Open a shell");
  expect(await page("operator")).toContain("It is kept as this build left it");
  expect(await page("operator")).not.toContain("Open a shell");
  expect(await page(undefined)).not.toContain(lent.name);
});

test("where the machine has no shell for browsers no page offers one", async () => {
  const { sql } = web.database;
  const { failed } = web.seeded;
  await sql.query("update gomote_instance set build_id = $1 where name = $2", [failed, lent.name]);
  const offers = () =>
    Promise.all(
      [`/gomotes/${lent.name}`, `/b/${failed}`].map(async (path) => {
        const answer = await web.get(path, { headers: { ...headers("alice"), accept: "text/html" } });
        return (await answer.text()).includes("Open a shell");
      }),
    );
  expect(await offers()).toEqual([true, true]);
  await sql.query("update machine set agent = 'original' where name = $1", [lent.machine]);
  expect(await offers()).toEqual([false, false]);
  const instance = await web.get(`/gomotes/${lent.name}`, { headers: { ...headers("alice"), accept: "text/html" } });
  expect(await instance.text()).toContain("has no shell for a browser");
});

test("a command has a page with all its words, for whoever sees its instance; lists have them in short", async () => {
  const { sql } = web.database;
  const began = (command: string) =>
    commandBegan(
      sql,
      { instance: lent.id, coordinator: lent.coordinator, who: lent.alice.email, command, dir: "" },
      systemClock.now(),
    );
  const script = `sh -c for i in 1 2; do\n\techo "<b>$i</b>"\ndone ${"ä".repeat(3000)}`;
  const [whole, long] = [await began(script), await began(`${"ä".repeat(70_000)}`)];
  const pathOf = (id: number, instance = lent.id) => `/gomotes/${instance}/commands/${id}`;
  for (const who of ["alice", "keeper", "operator", "token"] as const)
    expect((await ask(who, pathOf(whole))).body).toMatchObject({
      page: { data: { words: script, cutFrom: null, href: `/gomotes/${lent.name}`, line: { id: whole, state: null } } },
    });
  const { words, cutFrom } = ((await ask("keeper", pathOf(long))).body.page as { data: GomoteCommandData }).data;
  expect([words.length, words.at(-1), cutFrom]).toEqual([32_768, "ä", 140_000]);
  const text = async (path: string) =>
    (await web.get(path, { headers: { ...headers("keeper"), accept: "text/html" } })).text();
  expect(await text(pathOf(long))).toContain("It is longer: the farm keeps the first 64 KiB of 136.7 KiB.");
  expect(await text(pathOf(whole))).toContain("do\n\techo &quot;&lt;b>$i&lt;/b>&quot;\ndone");
  for (const page of [`/gomotes/${lent.name}`, `/machines/${lent.machine}`]) {
    const list = await text(page);
    expect(list).toContain(`href="${pathOf(whole)}"`);
    expect(list).not.toContain("ä".repeat(301));
  }
  expect([(await ask("bob", pathOf(whole))).status, (await ask(undefined, pathOf(whole))).status]).toEqual([403, 401]);
  for (const path of [pathOf(whole, lent.id - 1), pathOf(999_999), `/gomotes/${lent.id}/commands/x`])
    expect(await ask("alice", path)).toMatchObject({
      status: 404,
      body: { error: expect.stringMatching(/^There is no command/) },
    });
  await sql.query("delete from gomote_command where id = any ($1::bigint[])", [[whole, long]]);
});

test("a recording is forgotten in time once its shell has ended", async () => {
  const { sql } = web.database;
  const now = systemClock.now();
  const [command] = await sql.query<{ id: number }>("select id from gomote_command where ended_at is null");
  if (!command) throw new Error("Nothing runs there");
  await recordingBegan(sql, command.id);
  const forget = () => deleteRecordings(sql, 0, plus(now, minutes(1)), 10);
  expect(await forget()).toEqual({ next: command.id, deleted: 0 });
  await commandEnded(sql, command.id, "ok", now);
  expect(await forget()).toEqual({ next: command.id, deleted: 1 });
  expect(await forget()).toEqual({ next: undefined, deleted: 0 });
});
