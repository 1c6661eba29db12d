/** Logging in at a login provider, which is a real one of the test's own. */
import { expect, onTestFinished, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import type { LoginInput } from "../config/input.ts";
import { minutes } from "../farm/ids.ts";
import type { Role } from "../farm/person.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { LoginProvider } from "../people/testing/login-provider.ts";
import { CLIENT_SECRET, testWeb } from "./testing/web.ts";

const FARM = "http://farm.test";

async function farmWithLogin(given: Partial<LoginInput> = {}) {
  const clock = new FakeClock();
  const provider = await LoginProvider.open(CLIENT_SECRET);
  const web = await testWeb({ clock, empty: true });
  onTestFinished(async () => {
    await web[Symbol.asyncDispose]();
    await provider[Symbol.asyncDispose]();
  });
  const login = { issuer: provider.issuer, clientId: "farm", clientSecret: { env: "X" }, name: "Example", ...given };
  web.config = { ...web.config, ...pick(checkFarm({ repos: [], hosts: [], builders: [], publicUrl: FARM, login })) };
  /** To the provider: its address, and the browser's cookie. */
  const begin = async (back = "/queues") => {
    const response = await web.get(`/login/openid?back=${encodeURIComponent(back)}`);
    return { to: response.headers.get("location") ?? "", cookie: cookieOf(response, "barnraiser_openid") };
  };
  /** From the provider: with what query it sends somebody back. */
  const visit = async (to: string): Promise<string> => {
    const response = await fetch(to, { redirect: "manual" });
    return (response.headers.get("location") ?? "").slice(FARM.length);
  };
  const login_ = async () => {
    const { to, cookie } = await begin();
    return web.get(await visit(to), { headers: { cookie } });
  };
  const who = async (cookie: string) =>
    (
      (await (await web.get("/me?format=json", { headers: { cookie } })).json()) as {
        page: { data: { email: string; roles: Role[] } };
      }
    ).page.data;
  return { web, clock, provider, begin, visit, login: login_, who };
}

const pick = ({ login, publicUrl }: ReturnType<typeof checkFarm>) => ({ login, publicUrl });

function cookieOf(response: Response, name: string): string {
  return (
    response.headers
      .getSetCookie()
      .find((one) => one.startsWith(`${name}=`))
      ?.split(";")[0] ?? ""
  );
}

async function refusal(response: Response): Promise<[number, string]> {
  const alert = /role="alert"[^>]*>([^<]*)</.exec(await response.text())?.[1] ?? "";
  expect(cookieOf(response, "barnraiser_session")).toBe("");
  return [response.status, alert.replaceAll("&#39;", "'")];
}

test("a user logs in at the provider, is sent back to where they were, and logs out", async () => {
  const { web, begin, visit, provider, who } = await farmWithLogin();
  await web.people.add("Alice@example.org", ["operator"], "operator");
  expect(await (await web.get("/login?back=/queues")).text()).toContain("Log in at Example");
  const { to, cookie } = await begin();
  const asked = new URL(to);
  expect(asked.origin).toBe(provider.issuer);
  expect(Object.fromEntries(asked.searchParams)).toMatchObject({
    response_type: "code",
    client_id: "farm",
    redirect_uri: `${FARM}/login/callback`,
    scope: "openid email profile",
    code_challenge_method: "S256",
  });
  const back = await web.get(await visit(to), { headers: { cookie } });
  expect([back.status, back.headers.get("location")]).toEqual([303, "/queues"]);
  const set = back.headers.getSetCookie();
  expect(set[0]).toMatch(/^barnraiser_openid=; Path=\/; Max-Age=0; HttpOnly; SameSite=Lax$/);
  expect(set[1]).toMatch(/^barnraiser_session=[\w-]{43}; Path=\/; Max-Age=2592000; HttpOnly; SameSite=Lax$/);
  const session = cookieOf(back, "barnraiser_session");
  expect(await who(session)).toMatchObject({ email: "Alice@example.org", roles: ["operator", "member"] });
  const cancel = (origin: string) =>
    web.get("/b/12/cancel", { method: "POST", headers: { cookie: session, origin } }).then((r) => r.status);
  expect([await cancel("https://evil.example"), await cancel(FARM)]).toEqual([403, 303]);
  expect(web.done).toEqual(["cancel 12 Alice@example.org"]);
  const [stored] = await web.database.sql.query<{ all: string }>("select s::text as all from browser_session s");
  expect(stored?.all).not.toContain(session.split("=")[1]);

  expect((await web.get("/logout", { method: "POST", headers: { cookie: session, origin: FARM } })).status).toBe(303);
  expect((await web.get("/me", { headers: { cookie: session } })).headers.get("location")).toBe("/login?back=/me");
});

test("whoever logs out here is led to log out at the provider, too, where that can be done", async () => {
  const { web, provider, login } = await farmWithLogin();
  await web.people.add("alice@example.org", ["member"], "operator");
  const logout = async (origin: string) => {
    const headers = { cookie: cookieOf(await login(), "barnraiser_session"), origin };
    const response = await web.get("/logout", { method: "POST", headers });
    return [response.status, response.headers.get("location")];
  };
  expect(await logout(FARM)).toEqual([303, "/"]);
  expect((await web.get("/logout/openid")).headers.get("location")).toBe("/");
  provider.logsOut = true;
  web.config = {
    ...web.config,
    login: { ...(web.config.login as NonNullable<typeof web.config.login>), clientId: "again" },
  };
  provider.clientId = "again";
  expect(await logout(FARM)).toEqual([303, "/login?out"]);
  expect(await logout("https://evil.example")).toEqual([403, null]);
  expect(await (await web.get("/login?out")).text()).toContain('<a href="/logout/openid">log out there, too</a>');
  expect(await (await web.get("/login")).text()).not.toContain("/logout/openid");
  const to = new URL((await web.get("/logout/openid")).headers.get("location") ?? "");
  expect([to.origin + to.pathname, Object.fromEntries(to.searchParams)]).toEqual([
    `${provider.issuer}/logout`,
    { client_id: "again", post_logout_redirect_uri: `${FARM}/` },
  ]);
});

test("an id token that is not for this login, or not from this provider, lets nobody in", async () => {
  const { web, provider, login } = await farmWithLogin();
  await web.people.add("alice@example.org", [], "operator");
  const past = Math.floor(Date.now() / 1000) - 3600;
  const forged: Record<string, (claims: Record<string, unknown>) => Record<string, unknown>> = {
    "another nonce": (claims) => ({ ...claims, nonce: "another" }),
    "no nonce": ({ nonce: _, ...claims }) => claims,
    "for somebody else": (claims) => ({ ...claims, aud: "another farm" }),
    expired: (claims) => ({ ...claims, iat: past, exp: past + 300 }),
    "from somebody else": (claims) => ({ ...claims, iss: "https://evil.example" }),
    "without subject": ({ sub: _, ...claims }) => claims,
  };
  for (const [what, forge] of Object.entries(forged)) {
    provider.forge = forge;
    const [status, alert] = await refusal(await login());
    expect([what, status, alert]).toEqual([what, 403, expect.stringMatching(/^Cannot log you in: .+ Log in again\.$/)]);
  }
  provider.forge = (claims) => claims;
  provider.foreignKey = true;
  expect((await refusal(await login()))[0]).toBe(403);
  provider.foreignKey = false;
  expect((await login()).status).toBe(303);
});

test("only the browser that began can finish, once, with its own state, within ten minutes", async () => {
  const { web, clock, begin, visit } = await farmWithLogin();
  await web.people.add("alice@example.org", [], "operator");
  const [one, other] = [await begin(), await begin()];
  const came = await visit(one.to);
  const finish = async (query: string, cookie: string) => refusal(await web.get(query, { headers: { cookie } }));
  const notBegun = "Cannot log you in: this login was not begun in this browser, or too long ago. Log in again.";
  expect(await finish(came, "")).toEqual([403, notBegun]);
  expect(await finish(came, `${one.cookie.slice(0, -4)}AAAA`)).toEqual([403, notBegun]);
  expect(await finish(came, other.cookie)).toEqual([403, expect.stringMatching(/^Cannot log you in: .*state/)]);
  expect(await finish("/login/callback?error=access_denied&state=x", one.cookie)).toEqual([
    403,
    expect.stringContaining("Cannot log you in: "),
  ]);
  expect((await web.get(came, { headers: { cookie: one.cookie } })).status).toBe(303);
  expect(await finish(came, one.cookie)).toEqual([403, expect.stringMatching(/^Cannot log you in: /)]);
  const late = await begin();
  const query = await visit(late.to);
  await clock.advance(minutes(10));
  expect(await finish(query, late.cookie)).toEqual([403, notBegun]);
});

test("an address that is no user's is let in where the configuration allows it, and becomes one", async () => {
  const { web, provider, login, who } = await farmWithLogin({
    allow: ["*@example.org", "carol@example.com"],
    roles: {
      member: "everybody",
      team: { claim: "groups", is: "farm" },
      operator: { claim: "groups", is: ["ops", "root"] },
    },
  });
  const as = (user: Record<string, unknown>) => {
    provider.user = { sub: String(user.email), email_verified: true, ...user };
    return login();
  };
  const roles = async (user: Record<string, unknown>) =>
    (await who(cookieOf(await as(user), "barnraiser_session"))).roles;
  expect(await roles({ email: "bob@EXAMPLE.org", groups: ["farm", "x"] })).toEqual(["team", "member"]);
  expect(await roles({ email: "bob@EXAMPLE.org", groups: "root" })).toEqual(["operator", "member"]);
  expect(await roles({ email: "carol@example.com" })).toEqual(["member"]);
  expect(await refusal(await as({ email: "mallory@example.com" }))).toEqual([
    403,
    "Cannot log you in: mallory@example.com is no user of this farm. Ask an operator: coordinator -add-user mallory@example.com",
  ]);
  const unverified = "Cannot log you in: Example has not verified a mail address of yours";
  expect(await refusal(await as({ email: "dan@example.org", email_verified: false }))).toEqual([403, unverified]);
  expect(await refusal(await as({ sub: "7" }))).toEqual([403, unverified]);
  expect(await refusal(await as({ email: "mallory@evil.example@example.com" }))).toEqual([
    403,
    expect.stringContaining("is no user"),
  ]);
  expect(await refusal(await as({ email: "bob@example.org", sub: "somebody else" }))).toEqual([
    403,
    expect.stringContaining("bob@example.org signed in with another account before."),
  ]);
  expect((await web.people.list()).map((person) => person.email)).toEqual(["bob@EXAMPLE.org", "carol@example.com"]);
});

test("whoever is removed is signed out; a provider that is away is a page that says so", async () => {
  const { web, provider, login, who } = await farmWithLogin();
  await web.people.add("alice@example.org", ["member"], "operator");
  const session = cookieOf(await login(), "barnraiser_session");
  expect((await who(session)).email).toBe("alice@example.org");
  await web.people.remove("alice@example.org", "operator");
  expect((await web.get("/me", { headers: { cookie: session } })).status).toBe(303);
  await provider[Symbol.asyncDispose]();
  web.config = {
    ...web.config,
    login: { ...(web.config.login as NonNullable<typeof web.config.login>), clientId: "again" },
  };
  const away = await refusal(await web.get("/login/openid"));
  expect(away).toEqual([503, expect.stringMatching(/^Cannot reach Example: /)]);
});
