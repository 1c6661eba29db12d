import { expect, test } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { minutes, ms, seconds } from "../farm/ids.ts";
import type { Role } from "../farm/person.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { peopleOf } from "../store/people.ts";
import type { Sql } from "../store/sql.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { repeated } from "../store/testing/repeated.ts";
import { Logins } from "./logins.ts";
import { readEmail, readRoles, readTokenName } from "./names.ts";
import { LONGEST_TOKEN, MOST_TOKENS, People, TOKEN_KEPT, USED_EVERY } from "./people.ts";

async function people(through: (sql: Sql) => Sql = (sql) => sql) {
  const clock = new FakeClock();
  const database = await freshDatabase();
  const { bus } = database;
  const sql = through(database.sql);
  const topics: string[] = [];
  bus.subscribe("person:", (topic) => topics.push(topic), new AbortController().signal);
  return {
    clock,
    sql,
    bus,
    topics,
    people: new People({ sql, bus, clock, log: quiet }),
    audit: () => sql.query<{ who: string; action: string }>("select who, action from audit order by id"),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

const refusal = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it was done",
    (error: unknown) => (error instanceof FarmError ? `${error.code}: ${error.message}` : String(error)),
  );

test("what is tried again, since the answer of the database was lost, is in the audit once", async () => {
  await using farm = await people(repeated);
  const { sql, bus, clock } = farm;
  const alice = await farm.people.add("alice@example.org", ["member"], "operator");
  await farm.people.setRoles("alice@example.org", ["team"], "operator");
  const { id } = await farm.people.newToken(alice, "laptop", TOKEN_KEPT, "operator");
  await farm.people.revokeToken(id, alice, "alice@example.org");
  const logins = new Logins({ sql, bus, clock });
  await logins.signIn(alice, { by: "openid", issuer: "https://id.example.org" });
  expect((await farm.audit()).map(({ action }) => action)).toEqual([
    "add user",
    "set roles",
    "new token",
    "revoke token",
    "login",
  ]);
});

test("a token stands for its person from the moment it is made, and the database does not have it", async () => {
  await using farm = await people();
  const alice = await farm.people.add("Alice@Example.org", ["team", "member"], "operator");
  expect(alice).toMatchObject({ email: "Alice@Example.org", name: "Alice", roles: ["team", "member"] });
  const made = await farm.people.newToken(alice, "laptop", TOKEN_KEPT, "operator");
  expect(made.token).toMatch(/^brt_[\w-]{40}$/);
  expect(await farm.people.identify(made.token)).toMatchObject(alice);
  const [stored] = await farm.sql.query<{ all: string }>("select t::text as all from api_token t");
  expect(stored?.all).not.toContain(made.token.slice(8));
  expect(await farm.audit()).toEqual([
    { who: "operator", action: "add user" },
    { who: "operator", action: "new token" },
  ]);
});

test("a token that is good no more says since when; any other says nothing", async () => {
  await using farm = await people();
  const alice = await farm.people.add("alice@example.org", [], "operator");
  const make = (name: string) => farm.people.newToken(alice, name, TOKEN_KEPT, "alice");
  const [revoked, expired] = [await make("one"), await make("two")];
  await farm.people.revokeToken(revoked.id, alice, "alice");
  await farm.clock.advance(ms(TOKEN_KEPT - 1));
  expect(await farm.people.identify(expired.token)).toMatchObject(alice);
  await farm.clock.advance(ms(1));
  const unknown =
    "unauthenticated: Cannot let you in with this token: the farm does not know it. Make another one, or log in again.";
  expect([
    await refusal(farm.people.identify(revoked.token)),
    await refusal(farm.people.identify(expired.token)),
    await refusal(farm.people.identify(`${expired.token.slice(0, -1)}~`)),
    await refusal(farm.people.identify(`brt_${"A".repeat(40)}`)),
    await refusal(farm.people.identify("")),
  ]).toEqual([
    `unauthenticated: Cannot let you in with this token: ${revoked.id} was revoked on 2026-11-23. Make another one, or log in again.`,
    `unauthenticated: Cannot let you in with this token: ${expired.id} expired on 2027-02-21. Make another one, or log in again.`,
    unknown,
    unknown,
    unknown,
  ]);
});

test("whoever is removed loses every token, is told so, and is somebody else when added again", async () => {
  await using farm = await people();
  const alice = await farm.people.add("alice@example.org", ["member"], "operator");
  const { token } = await farm.people.newToken(alice, "laptop", TOKEN_KEPT, "operator");
  farm.topics.length = 0;
  await farm.people.remove("ALICE@example.org", "operator");
  expect(farm.topics).toEqual([`person:${alice.id}`]);
  expect(await peopleOf(farm.sql, [alice.id])).toMatchObject([{ id: alice.id, removed: true }]);
  expect(await refusal(farm.people.identify(token))).toContain("alice@example.org was removed on 2026-11-23.");
  const again = await farm.people.add("alice@example.org", ["member"], "operator");
  expect(again.id).not.toBe(alice.id);
  expect(await refusal(farm.people.identify(token))).toContain("was removed");
  expect(await farm.people.tokens(again)).toEqual([]);
});

test("an address is taken once whatever its case, at the same moment too; roles are changed in place", async () => {
  await using farm = await people();
  const add = (email: string, roles: readonly Role[] = []) => farm.people.add(email, roles, "operator");
  const tried = await Promise.allSettled(["bob@example.org", "BOB@example.org", "Bob@Example.org"].map((e) => add(e)));
  expect(tried.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
  expect(await refusal(add("bob@EXAMPLE.org", ["team"]))).toMatch(/^conflict: Cannot add bob@EXAMPLE.org: \S+ is here/);
  const bob = await farm.people.setRoles("bob@example.org", ["team"], "operator");
  const { token } = await farm.people.newToken(bob, "laptop", TOKEN_KEPT, "operator");
  await farm.people.setRoles("bob@example.org", ["operator"], "operator");
  expect((await farm.people.identify(token)).roles).toEqual(["operator"]);
});

test("a name that nobody has is answered with the one that was probably meant", async () => {
  await using farm = await people();
  await farm.people.add("alice@example.org", [], "operator");
  expect(await refusal(farm.people.remove("alcie@example.org", "operator"))).toBe(
    'not-found: Cannot find the user "alcie@example.org"; did you mean "alice@example.org"? -list-users shows all.',
  );
});

test("a token is revoked by whoever owns it, or by the operator, and by nobody else", async () => {
  await using farm = await people();
  const [alice, bob] = [
    await farm.people.add("alice@example.org", [], "operator"),
    await farm.people.add("bob@example.org", [], "operator"),
  ];
  const { id, token } = await farm.people.newToken(alice, "laptop", TOKEN_KEPT, "alice@example.org");
  expect(await refusal(farm.people.revokeToken(id, bob, "bob@example.org"))).toBe(
    `not-found: Cannot revoke "${id}": there is no such token. /me shows them.`,
  );
  expect(await farm.people.identify(token)).toMatchObject(alice);
  await farm.people.revokeToken(id, null, "operator");
  expect(await refusal(farm.people.identify(token))).toContain("was revoked");
});

test("how long and how many tokens are good is limited", async () => {
  await using farm = await people();
  const alice = await farm.people.add("alice@example.org", [], "operator");
  const make = (span: number) => farm.people.newToken(alice, "laptop", ms(span), "operator");
  expect(await refusal(make(0))).toContain("Cannot make a token that is good for 0s: want more than nothing");
  expect(await refusal(make(LONGEST_TOKEN + 1))).toContain("at most 9600h0m0s");
  for (let i = 0; i < MOST_TOKENS; i++) await make(60_000);
  expect(await refusal(make(60_000))).toContain(`they have ${MOST_TOKENS} that are good`);
  await farm.clock.advance(minutes(1));
  expect((await make(60_000)).person).toEqual(alice);
});

test("when a token was last used is written once a minute at most", async () => {
  await using farm = await people();
  const alice = await farm.people.add("alice@example.org", [], "operator");
  const { token } = await farm.people.newToken(alice, "laptop", TOKEN_KEPT, "operator");
  const used = async () => (await farm.people.tokens(alice))[0]?.lastUsedAt;
  const first = farm.clock.now();
  await farm.people.identify(token);
  await expect.poll(used).toBe(first);
  await farm.clock.advance(ms(USED_EVERY - 1));
  await farm.people.identify(token);
  expect(await used()).toBe(first);
  await farm.clock.advance(seconds(1));
  await farm.people.identify(token);
  await expect.poll(used).toBe(farm.clock.now());
  expect(await farm.people.list()).toMatchObject([
    { email: "alice@example.org", tokens: 1, lastUsedAt: farm.clock.now() },
  ]);
});

test("[gomote 9] the name is what stands before the last @; an address without one of its sides is none", async () => {
  await using farm = await people();
  expect((await farm.people.add("a@b@c.org", [], "operator")).name).toBe("a@b");
  for (const email of [
    "@c.org",
    "a@",
    "alice",
    "a/b@c.org",
    "a b@c.org",
    "-a@c.org",
    "a@c/d",
    "a@.",
    `${"a".repeat(250)}@c.org`,
  ])
    expect(() => readEmail(email), email).toThrow(/^Cannot take ".*" for a mail address: want /);
});

test("roles are read in any order; one that there is not is named, with the one that was meant", () => {
  expect([readRoles("member, team"), readRoles("team,team"), readRoles("")]).toEqual([
    ["team", "member"],
    ["team"],
    [],
  ]);
  expect(() => readRoles("membre")).toThrow(
    'Cannot give the role "membre": there are operator, team, member; did you mean "member"?',
  );
  for (const name of ["", " ", "a\u0000b", "a\u202eb", "x".repeat(101)])
    expect(() => readTokenName(name)).toThrow(/^Cannot call a token/);
});

test("whoever signs out is signed out, which is told to whoever let them in for longer, and in the audit; once", async () => {
  await using farm = await people();
  const { sql, bus, clock, topics } = farm;
  const alice = await farm.people.add("alice@example.org", [], "operator");
  const logins = new Logins({ sql, bus, clock });
  const { secret } = await logins.signIn(alice, { by: "openid", issuer: "https://login.example.org" });
  topics.length = 0;
  for (const each of [secret, secret, "x".repeat(43), "no secret"]) await logins.signOut(each);
  expect([await logins.person(secret), topics]).toEqual([undefined, [`person:${alice.id}`]]);
  expect((await farm.audit()).map(({ action }) => action)).toEqual(["add user", "login", "logout"]);
});
