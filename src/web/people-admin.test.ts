/** `/people`: what operators see of people and do about them, on pages; the command line's side of it is in e2e/people.test.ts. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { auditOf } from "../store/audit.ts";
import type { PeopleData } from "../ui/pages/people.tsx";
import type { PersonData } from "../ui/pages/person.tsx";
import { type Lent, lend } from "./testing/lent.ts";
import { type TestWeb, TOKEN, testWeb } from "./testing/web.ts";

const origin = "http://farm.test";

let web: TestWeb;
let lent: Lent;
/** Of the browsers of an operator and of somebody who is none. */
let root: string;
let alice: string;

beforeAll(async () => {
  web = await testWeb();
  lent = await lend(web);
  const browser = async (token: string) => {
    const answer = await post("/login", { token }, { origin });
    return answer.headers.get("set-cookie")?.split(";")[0] ?? "";
  };
  root = await browser(lent.tokens.operator);
  alice = await browser(lent.tokens.alice);
});
afterAll(() => web?.[Symbol.asyncDispose]());

function post(path: string, form: Record<string, string> | [string, string][], headers: Record<string, string>) {
  return web.get(path, { method: "POST", headers, body: new URLSearchParams(form) });
}

const press = (path: string, form: Record<string, string> | [string, string][] = {}) =>
  post(path, form, { origin, cookie: root });

async function data<T>(path: string): Promise<T> {
  const answer = await web.get(`${path}${path.includes("?") ? "&" : "?"}format=json`, { headers: { cookie: root } });
  return ((await answer.json()) as { page: { data: T } }).page.data;
}

const people = async (query = "") => (await data<PeopleData>(`/people${query}`)).people;
const person = (id: string) => data<PersonData>(`/people/${id}`);

test("operators see who there is, what they may, and what they have; nobody else does, nor is led there", async () => {
  expect(await people("?q=EXAMPLE.org")).toMatchObject([
    { email: "alice@example.org", roles: ["member"], tokens: 1, instances: 1 },
    { email: "bob@example.org", instances: 1 },
    { email: "keeper@example.org", instances: 0 },
    { email: "root@example.org", roles: ["operator"], instances: 0 },
  ]);
  expect((await people("?q=operator")).map(({ email }) => email)).toEqual(["root@example.org"]);
  expect(await people("?q=lic")).toHaveLength(1);
  expect(await people("?page=7")).toHaveLength(4);
  for (const path of ["/people", `/people/${lent.alice.id}`, "/people/tokens?email=bob@example.org"]) {
    expect((await web.get(path, { headers: { cookie: alice } })).status).toBe(403);
    expect((await web.get(path)).headers.get("location")).toBe(`/login?back=${encodeURIComponent(path)}`);
    expect((await web.get(path, { headers: { cookie: root } })).headers.get("cache-control")).toBe("no-store");
  }
  const link = 'href="/people"';
  expect(await (await web.get("/queues", { headers: { cookie: root } })).text()).toContain(link);
  expect(await (await web.get("/queues", { headers: { cookie: alice } })).text()).not.toContain(link);
  expect((await web.get("/people/U000000000", { headers: { cookie: root } })).status).toBe(404);
});

test("a user is added with the roles that are ticked, gets a token that is shown once, other roles, and is removed", async () => {
  const added = await press("/people", [
    ["email", "carol@example.org"],
    ["roles", "team"],
    ["roles", "member"],
  ]);
  const at = added.headers.get("location") ?? "";
  expect([added.status, at]).toEqual([303, expect.stringMatching(/^\/people\/U[0-9a-f]{9}$/)]);
  const id = at.slice("/people/".length);
  expect(await person(id)).toMatchObject({
    email: "carol@example.org",
    roles: ["team", "member"],
    tokens: [],
    self: false,
  });

  const made = await press(`${at}/token`, { name: "her first", days: "7" });
  const [token = ""] = /brt_[\w-]{40}/.exec(await made.text()) ?? [];
  expect(await web.people.identify(token)).toMatchObject({ email: "carol@example.org", roles: ["team", "member"] });
  expect((await web.get(`${at}/token`, { headers: { cookie: root } })).headers.get("location")).toBe(at);
  const html = await (await web.get(at, { headers: { cookie: root } })).text();
  expect([html.includes(token), html.includes("her first")]).toEqual([false, true]);
  expect((await press(`${at}/token`, { name: "no", days: "1.5" })).status).toBe(400);

  expect((await press("/people/roles", { email: "carol@example.org" })).headers.get("location")).toBe(at);
  expect((await person(id)).roles).toEqual([]);
  const [first] = (await person(id)).tokens;
  expect((await press(`/tokens/${first?.id}/revoke`)).status).toBe(303);
  await expect(web.people.identify(token)).rejects.toThrow("was revoked");

  expect((await press("/people/remove", { email: "carol@example.org" })).headers.get("location")).toBe("/people");
  expect((await people()).some(({ email }) => email === "carol@example.org")).toBe(false);
  const lines = (await auditOf(web.database.sql, `person:${id}`, 9)).map(({ who, action, detail }) => [
    who,
    action,
    detail,
  ]);
  expect(lines).toEqual([
    ["root@example.org", "remove user", "carol@example.org"],
    ["root@example.org", "revoke token", first?.id],
    ["root@example.org", "set roles", "carol@example.org, no role"],
    ["root@example.org", "new token", `${first?.id} "her first"`],
    ["root@example.org", "add user", "carol@example.org, roles team, member"],
  ]);
});

test("one user's page has their instances, tokens and what was done; it says when it is oneself", async () => {
  expect(await person(lent.alice.id)).toMatchObject({
    instances: [{ name: lent.name, state: "up" }],
    tokens: [{ name: "test", good: true }],
    audit: [{ action: "login" }, { action: "new token" }, { action: "add user", who: "test" }],
  });
  expect((await person(lent.operator.id)).self).toBe(true);
});

test("no other site presses a button, nobody else does, and what is wrong is said on a page", async () => {
  const form = { email: "mallory@example.org", roles: "operator" };
  expect((await post("/people", form, { cookie: root, origin: "http://elsewhere.example" })).status).toBe(403);
  expect((await post("/people", form, { cookie: alice, origin })).status).toBe(403);
  expect((await post(`/people/${lent.alice.id}/token`, { name: "x" }, { cookie: alice, origin })).status).toBe(403);
  expect((await post("/people", form, { origin })).status).toBe(401);
  const twice = await press("/people", { email: "ALICE@example.org" });
  expect([twice.status, await twice.text()]).toEqual([409, expect.stringContaining("is here already")]);
  expect((await press("/people", { email: "bob" })).status).toBe(400);
  expect((await people("?q=mallory")).length).toBe(0);
});

test("the operator token sees and does the same, and the command line gets its list", async () => {
  const bearer = { authorization: `Bearer ${TOKEN}` };
  expect((await web.get("/people", { headers: bearer })).status).toBe(200);
  const listed = await web.get("/people", { headers: { ...bearer, accept: "application/json" } });
  expect(((await listed.json()) as { people: object[] }).people).toHaveLength(4);
});
