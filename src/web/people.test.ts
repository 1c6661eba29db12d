/** People at the pages: who a request is from, letting programs in, their tokens, and what the original gomote command asks for. */
import { expect, onTestFinished, test } from "vitest";
import { minutes, ms, seconds } from "../farm/ids.ts";
import type { Role } from "../farm/person.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { TOKEN_KEPT } from "../people/people.ts";
import { TOKEN, testWeb } from "./testing/web.ts";

const origin = "http://farm.test";
const DEVICE = "urn:ietf:params:oauth:grant-type:device_code";

async function farm() {
  const clock = new FakeClock();
  const web = await testWeb({ clock, empty: true });
  onTestFinished(() => web[Symbol.asyncDispose]());
  const post = (path: string, body: Record<string, string> = {}, headers: Record<string, string> = {}) =>
    web.get(path, { method: "POST", headers, body: new URLSearchParams(body) });
  return {
    web,
    clock,
    post,
    /** A user with a token of theirs. */
    async user(email: string, roles: readonly Role[] = [], kept: number = TOKEN_KEPT) {
      const person = await web.people.add(email, roles, "operator");
      return web.people.newToken(person, "laptop", ms(kept), "operator");
    },
    /** The cookie of a browser in which `token` was pasted. */
    async browser(token: string): Promise<string> {
      const response = await post("/login", { token, back: "/queues" }, { origin });
      expect([response.status, response.headers.get("location")]).toEqual([303, "/queues"]);
      return response.headers.get("set-cookie")?.split(";")[0] ?? "";
    },
    async ask(program = "gomote", name = "laptop") {
      const response = await post("/device/code", { client_id: program, name });
      return (await response.json()) as Record<"device_code" | "user_code" | "verification_uri_complete", string>;
    },
    async poll(device_code: string): Promise<[number, Record<string, unknown>]> {
      const response = await post("/token", { grant_type: DEVICE, device_code, client_id: "gomote" });
      return [response.status, (await response.json()) as Record<string, unknown>];
    },
  };
}

const said = async (response: Response): Promise<string> => {
  const html = (await response.text()).replace(/<script[\s\S]*?<\/script>/g, "");
  return html
    .replace(/^[\s\S]*<main/, "<")
    .replace(/<\/main>[\s\S]*$/, "")
    .replace(/<[^>]*>/g, " ")
    .replace(/\s+/g, " ");
};

test("a token pasted on the login page signs its user in, for as long as the token is good", async () => {
  const { web, user, browser, clock, post } = await farm();
  const { token, id, person } = await user("alice@example.org", ["member"], 86_400_000);
  const cookie = await browser(token);
  expect(cookie).not.toContain(token);
  const page = await web.get("/me", { headers: { cookie } });
  expect(page.headers.get("cache-control")).toBe("no-store");
  expect(await said(page)).toMatch(/alice@example\.org.*member borrows machines that are lent to members.*laptop/);
  const act = (headers: Record<string, string>) => post("/b/12/cancel", {}, { accept: "application/json", ...headers });
  const forbidden = await act({ cookie, origin });
  expect([forbidden.status, await forbidden.json()]).toEqual([
    403,
    { error: "Cannot do this as alice@example.org: it takes the role operator" },
  ]);
  await web.people.setRoles("alice@example.org", ["operator"], "operator");
  expect([
    (await act({ cookie, origin })).status,
    (await act({ authorization: `Bearer ${token}` })).status,
    (await act({ cookie })).status,
    (await act({ cookie, origin: "https://evil.example" })).status,
  ]).toEqual([200, 200, 403, 403]);
  expect(web.done).toEqual(Array(2).fill("cancel 12 alice@example.org"));
  const other = await browser((await web.people.newToken(person, "other", TOKEN_KEPT, "operator")).token);
  await web.people.revokeToken(id, null, "operator");
  const revoked = await act({ authorization: `Bearer ${token}` });
  expect([revoked.status, await revoked.json()]).toEqual([
    401,
    { error: `Cannot let you in with this token: ${id} was revoked on 2026-11-23. Make another one, or log in again.` },
  ]);
  expect((await act({ cookie, origin })).status).toBe(401);
  expect((await act({ cookie: other, origin })).status).toBe(200);
  await clock.advance(ms(30 * 86_400_000));
  expect((await act({ cookie: other, origin })).status).toBe(401);
});

test("a NUL in an address or in a field is said to be one, and no database is asked for it", async () => {
  const { web, user, post } = await farm();
  const { token } = await user("alice@example.org");
  const headers = { accept: "application/json", authorization: `Bearer ${token}` };
  const answers = [
    await post("/me/tokens/%00/revoke", {}, headers),
    await post("/me/tokens", { name: "a\0b", days: "1" }, headers),
    await web.get("/machines/%00", { headers }),
    await web.get("/search?q=%00", { headers }),
  ];
  expect(await Promise.all(answers.map(async (answer) => [answer.status, await answer.json()]))).toEqual([
    [400, { error: "Cannot look for a name with a NUL (%00): none has one." }],
    [400, { error: 'Cannot take the field "name": it holds a NUL.' }],
    ...Array(2).fill([400, { error: "Cannot look for a name with a NUL (%00): none has one." }]),
  ]);
});

test("guessing is slow, for whoever shows a token that was good it is not", async () => {
  const { web, user, post } = await farm();
  const { token, id } = await user("alice@example.org");
  await web.people.revokeToken(id, null, "operator");
  const guess = `brt_${"A".repeat(40)}`;
  const login = (given: string) => post("/login", { token: given }, { origin });
  for (let i = 0; i < 20; i++) expect((await login(token)).status).toBe(403);
  expect(await said(await login(token))).toContain("This token does not let you in: T");
  for (let i = 0; i < 10; i++) expect((await login(guess)).status).toBe(403);
  const waits = await login(TOKEN);
  expect([waits.status, waits.headers.get("retry-after")]).toEqual([429, "60"]);
  expect((await post("/b/1/cancel", {}, { authorization: `Bearer ${TOKEN}` })).status).toBe(401);
});

test("somebody makes tokens, which are shown once, and revokes their own", async () => {
  const { web, user, browser, post } = await farm();
  const alice = await user("alice@example.org", [], 10 * 86_400_000);
  const bob = await user("bob@example.org");
  const cookie = await browser(alice.token);
  const page = await post("/me/tokens", { name: "ci <b>", days: "400" }, { cookie, origin });
  const html = await page.text();
  const made = /brt_[\w-]{40}/.exec(html)?.[0] ?? "";
  expect(html).toContain(`export GCE_METADATA_HOST='alice:${made}@localhost:8118'`);
  expect([page.status, page.headers.get("cache-control")]).toEqual([200, "no-store"]);
  expect(await (await web.get("/me", { headers: { cookie } })).text()).not.toContain(made);
  expect((await web.people.identify(made)).email).toBe("alice@example.org");
  // Whoever only had a token of ten days does not make one that outlives it.
  expect((await web.people.tokens(alice.person)).map((token) => token.expiresAt)).toEqual([
    alice.expiresAt,
    alice.expiresAt,
  ]);
  const status = async (
    path: string,
    body: Record<string, string> = {},
    headers: Record<string, string> = { cookie, origin },
  ) => (await post(path, body, headers)).status;
  expect([
    await status("/me/tokens", { name: "x" }, { cookie }),
    await status("/me/tokens", { name: "", days: "9" }),
    await status("/me/tokens", { name: "x", days: "1.5" }),
    await status("/me/tokens", { name: "x", days: "9" }, { authorization: `Bearer ${TOKEN}` }),
    await status(`/me/tokens/${bob.id}/revoke`),
    await status(`/me/tokens/${alice.id}/revoke`),
    await status("/me/tokens", { name: "x" }),
  ]).toEqual([403, 400, 400, 403, 404, 303, 401]);
  expect((await web.get("/me/tokens")).headers.get("location")).toBe("/me");
  expect(await said(await web.get("/me", { headers: { cookie: await browser(TOKEN) } }))).toContain("The operator");
});

test("a program without a browser gets a token once somebody has allowed it, and only then, and once", async () => {
  const { web, user, browser, ask, poll, clock, post } = await farm();
  const cookie = await browser((await user("alice@example.org")).token);
  const asked = await ask();
  expect(asked).toMatchObject({
    user_code: expect.stringMatching(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/),
    verification_uri_complete: `http://farm.test/device?user_code=${asked.user_code}`,
    expires_in: 600,
    interval: 5,
  });
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "authorization_pending" }]);
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "slow_down" }]);
  await clock.advance(seconds(9));
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "slow_down" }]);
  await clock.advance(seconds(15));
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "authorization_pending" }]);

  // A link alone allows nothing: it leads to what asks, and before that to the login.
  const link = `/device?user_code=${asked.user_code}`;
  expect((await web.get(link)).headers.get("location")).toBe(`/login?back=${encodeURIComponent(link)}`);
  expect(await said(await web.get(link, { headers: { cookie } }))).toMatch(
    new RegExp(`Let a program in\\? .* code ${asked.user_code} program gomote on laptop from unknown asked .* ago`),
  );
  const answer = (given: Record<string, string>, headers: Record<string, string> = { cookie, origin }) =>
    post("/device", given, headers);
  expect((await answer({ user_code: asked.user_code, answer: "allow" }, { cookie })).status).toBe(403);
  expect((await answer({ user_code: asked.user_code, answer: "allow" }, {})).status).toBe(401);
  await clock.advance(seconds(15));
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "authorization_pending" }]);
  const typed = asked.user_code.toLowerCase().replace("-", " ");
  expect(await said(await answer({ user_code: typed, answer: "allow" }))).toContain("It is let in");
  await clock.advance(seconds(15));
  const [status, granted] = await poll(asked.device_code);
  expect([status, granted]).toEqual([
    200,
    { access_token: expect.stringMatching(/^brt_/), token_type: "Bearer", expires_in: expect.any(Number) },
  ]);
  expect((await web.people.identify(String(granted.access_token))).email).toBe("alice@example.org");
  expect(await poll(asked.device_code)).toMatchObject([400, { error: "invalid_grant" }]);
  expect((await answer({ user_code: asked.user_code, answer: "allow" })).status).toBe(404);
});

test("a program whose token is revoked and which refreshes it is told, as RFC 6749 has it, to log in anew", async () => {
  const { web, user, post } = await farm();
  const { token, id } = await user("alice@example.org");
  const refresh = async () => {
    const response = await post("/token", { grant_type: "refresh_token", refresh_token: token });
    return [response.status, await response.json()];
  };
  expect(await refresh()).toMatchObject([200, {}]);
  await web.people.revokeToken(id, null, "operator");
  expect(await refresh()).toMatchObject([
    400,
    { error: "invalid_grant", error_description: expect.stringContaining(`${id} was revoked`) },
  ]);
});

test("what is refused, too late, of nobody or of somebody removed gets nothing", async () => {
  const { web, user, browser, ask, poll, clock, post } = await farm();
  const cookie = await browser((await user("alice@example.org")).token);
  const [refused, late, orphaned] = [await ask(), await ask(), await ask()];
  await post("/device", { user_code: refused.user_code, answer: "deny" }, { cookie, origin });
  // Nobody else changes an answer.
  const bob = await browser((await user("bob@example.org")).token);
  expect(
    (await post("/device", { user_code: refused.user_code, answer: "allow" }, { cookie: bob, origin })).status,
  ).toBe(404);
  expect(await poll(refused.device_code)).toMatchObject([400, { error: "access_denied" }]);
  await post("/device", { user_code: orphaned.user_code, answer: "allow" }, { cookie: bob, origin });
  await web.people.remove("bob@example.org", "operator");
  expect((await poll(orphaned.device_code))[1]).toMatchObject({ error: "invalid_grant" });
  await clock.advance(minutes(10));
  expect((await post("/device", { user_code: late.user_code, answer: "allow" }, { cookie, origin })).status).toBe(404);
  expect(await poll(late.device_code)).toMatchObject([400, { error: "expired_token" }]);
  expect(await poll("x".repeat(43))).toMatchObject([400, { error: "invalid_grant" }]);
  const other = await post("/token", { grant_type: "password" });
  expect([other.status, await other.json()]).toMatchObject([400, { error: "unsupported_grant_type" }]);
  expect((await post("/device/code", { client_id: "" })).status).toBe(400);
  expect((await post("/device/code", { client_id: "a\u202eb" })).status).toBe(400);
  // The operator token is nobody's own.
  const operator = await browser(TOKEN);
  expect((await web.get("/device", { headers: { cookie: operator } })).status).toBe(403);
  expect((await post("/device", { user_code: "x", answer: "allow" }, { cookie: operator, origin })).status).toBe(403);
});

test("asking for codes, and typing them, is limited", async () => {
  const { web, user, browser, ask, post, clock } = await farm();
  const cookie = await browser((await user("alice@example.org")).token);
  for (let i = 0; i < 10; i++) await ask();
  expect((await post("/device/code", { client_id: "gomote" })).status).toBe(429);
  const type = (code: string) => web.get(`/device?user_code=${code}`, { headers: { cookie } }).then((r) => r.status);
  for (let i = 0; i < 10; i++) expect(await type("BBBB-BBBB")).toBe(404);
  expect(await type("BBBB-BBBB")).toBe(429);
  await clock.advance(minutes(1));
  expect(await type((await ask()).user_code)).toBe(200);
});

test("[gomote 1] the metadata server gives the original command the project it expects, and the token that it was given", async () => {
  const { web, user } = await farm();
  const { token, id } = await user("alice@example.org");
  const get = async (path: string, headers: Record<string, string>) => {
    const response = await web.get(`/computeMetadata/v1/${path}`, { headers });
    return [response.status, await response.text(), response.headers.get("metadata-flavor")];
  };
  // As it asks: what is before the @ of GCE_METADATA_HOST becomes the request's user and password.
  const asks = (password: string) => ({
    "metadata-flavor": "Google",
    authorization: `Basic ${Buffer.from(`alice:${password}`).toString("base64")}`,
  });
  const identity = "instance/service-accounts/default/identity?audience=x&format=full";
  expect(await get("project/project-id", asks(token))).toEqual([200, "symbolic-datum-552", "Google"]);
  expect(await get(identity, asks(token))).toEqual([200, token, "Google"]);
  expect(await get("instance/service-accounts/default/token", asks(token))).toMatchObject([
    404,
    expect.any(String),
    "Google",
  ]);
  expect(await get(identity, { "metadata-flavor": "Google" })).toMatchObject([401, expect.any(String), "Google"]);
  const { authorization } = asks(token);
  expect(await get(identity, { authorization })).toMatchObject([403, expect.any(String), "Google"]);
  await web.people.revokeToken(id, null, "operator");
  expect(await get(identity, asks(token))).toMatchObject([401, expect.stringContaining(`${id} was revoked`), "Google"]);
});

test("the original command's own login works against us where a proxy leads it here", async () => {
  const { web, user, browser, post, clock } = await farm();
  const cookie = await browser((await user("alice@example.org")).token);
  const client_id = "1-x.apps.googleusercontent.com";
  const asked = (await (await post("/device/code", { client_id, scope: "email openid profile" })).json()) as Record<
    string,
    string
  >;
  expect(asked).toMatchObject({ verification_url: "http://farm.test/device" });
  const { device_code = "", user_code = "" } = asked;
  const poll = () => post("/token", { client_id, client_secret: "x", grant_type: DEVICE, device_code });
  expect((await poll()).status).toBe(428);
  await post("/device", { user_code, answer: "allow" }, { cookie, origin });
  await clock.advance(seconds(5));
  const granted = (await (await poll()).json()) as Record<string, string>;
  const refresh = (refresh_token: string) => post("/token", { client_id, grant_type: "refresh_token", refresh_token });
  const again = (await (await refresh(granted.refresh_token ?? "")).json()) as Record<string, string>;
  expect((await web.people.identify(again.id_token ?? "")).email).toBe("alice@example.org");
  expect(await (await refresh("x")).json()).toMatchObject({ error: "invalid_grant" });
});
