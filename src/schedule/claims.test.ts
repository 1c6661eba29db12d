import { expect, test } from "vitest";
import { epochMs, leaseId, machineId, ms, type SessionId, seconds, sessionId } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { type Claimed, Claims, MAX_ASKING, RETRY, SWEEP } from "./claims.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const id = (n: number) => sessionId(String(n).padStart(32, "0"));

/** A database of one queue: a number of leases, and sessions that may not take them. */
function farm(options: { wanted?: number; refused?: Set<SessionId>; lookAgainAt?: number } = {}) {
  const clock = new FakeClock();
  const stop = new AbortController();
  const state = { wanted: options.wanted ?? 0, asked: [] as SessionId[], started: [] as SessionId[], fail: 0 };
  let leases = 0;
  const claims = new Claims(
    {
      clock,
      log: quiet,
      claim: async (session): Promise<Claimed> => {
        state.asked.push(session);
        await new Promise(setImmediate);
        if (state.fail > 0) {
          state.fail--;
          throw new Error("the database is away");
        }
        const refused = options.refused?.has(session) ?? false;
        const at = options.lookAgainAt;
        const got = state.wanted > 0 && !refused;
        if (got) state.wanted--;
        return {
          lease: got ? leaseOf(++leases, session) : undefined,
          waiting: Math.min(state.wanted, MAX_ASKING),
          lookAgainAt: got || at === undefined ? null : epochMs(at),
        };
      },
    },
    stop.signal,
  );
  claims.begin((lease) => state.started.push(lease.sessionId));
  return { clock, claims, state, stop };
}

function leaseOf(n: number, session: SessionId): Lease {
  return {
    id: leaseId(n),
    kind: "build",
    class: "post-submit",
    queue: "q",
    provenance: "submitted",
    wantedAt: epochMs(0),
    sessionId: session,
    machineId: machineId(n),
    epoch: 1,
    anew: true,
  };
}

const offerAll = (claims: Claims, n: number) => {
  for (let i = 1; i <= n; i++) claims.offer({ id: id(i), queue: "q" });
};

test("Claims: one new lease among 1,000 idle sessions is asked for by one", async () => {
  const { clock, claims, state } = farm();
  offerAll(claims, 1000);
  await clock.advance(seconds(1));
  state.asked.length = 0;
  state.wanted = 1;
  claims.wake("q");
  await clock.advance(seconds(1));
  expect([state.started.length, state.asked.length]).toEqual([1, 1]);
});

test("Claims: thousands that come to a queue in which nothing waits ask once, and all hear of what comes later", async () => {
  const { clock, claims, state } = farm();
  offerAll(claims, 5000);
  await clock.advance(seconds(1));
  expect(state.asked).toEqual([id(1)]);
  state.wanted = 5000;
  claims.wake("q");
  for (let i = 0; i < 1500; i++) await clock.advance(ms(1));
  expect([state.started.length, state.wanted]).toEqual([5000, 0]);
});

test("Claims: thousands that come to a queue that is full of work all get some", async () => {
  const { clock, claims, state } = farm({ wanted: 5000 });
  offerAll(claims, 5000);
  for (let i = 0; i < 1500; i++) await clock.advance(ms(1));
  expect([state.started.length, state.wanted]).toEqual([5000, 0]);
});

test("Claims: when a question fails, others ask in its place, for all that waits", async () => {
  const { clock, claims, state } = farm({ wanted: 2 });
  state.fail = 1;
  offerAll(claims, 3);
  for (let i = 0; i < 5; i++) await clock.advance(ms(5));
  expect(state.started).toEqual([id(2), id(3)]);
});

test("Claims: a session that was given a lease asks itself, once more when it is asking already, and once for each lease", async () => {
  const { clock, claims, state } = farm();
  offerAll(claims, 5);
  await clock.advance(seconds(1));
  state.asked.length = 0;
  claims.summon(id(4));
  claims.summon(id(4)); // the first question may have been answered before the second lease existed
  for (let i = 0; i < 3; i++) await clock.advance(seconds(1));
  expect(state.asked).toEqual([id(4), id(4)]);
  state.asked.length = 0;
  state.wanted = 1;
  claims.summon(id(2));
  claims.summon(id(2));
  claims.summon("not one of here");
  await clock.advance(seconds(1));
  expect([state.asked[0], state.asked.filter((each) => each === id(2)).length, state.started]).toEqual([
    id(2),
    1,
    [id(2)],
  ]);
});

test("Claims: a burst of leases after one wake reaches as many idle sessions, and nobody asks in vain", async () => {
  const { clock, claims, state } = farm();
  offerAll(claims, 150);
  await clock.advance(seconds(1));
  state.asked.length = 0;
  state.wanted = 100;
  claims.wake("q");
  for (let i = 0; i < 40; i++) await clock.advance(ms(1));
  expect([new Set(state.started).size, claims.idle("q"), state.asked.length]).toEqual([100, 50, 100]);
});

test("Claims: a lease that the first session may not take is offered to the others", async () => {
  const { clock, claims, state } = farm({ refused: new Set([id(1), id(2)]) });
  offerAll(claims, 3);
  await clock.advance(seconds(1));
  state.wanted = 1;
  claims.wake("q");
  for (let i = 0; i < 10; i++) await clock.advance(ms(1));
  expect(state.started).toEqual([id(3)]);
});

test("Claims: a wake that comes while a question is under way is not lost", async () => {
  const { clock, claims, state } = farm();
  claims.offer({ id: id(1), queue: "q" }); // asks, and will get "dry"
  claims.wake("q");
  await clock.advance(ms(1));
  state.wanted = 1;
  claims.wake("q");
  for (let i = 0; i < 5; i++) await clock.advance(ms(1));
  expect(state.started).toEqual([id(1)]);
});

test("Claims: a session whose question failed asks again itself", async () => {
  const { clock, claims, state } = farm();
  state.fail = 1;
  claims.offer({ id: id(1), queue: "q" });
  await clock.advance(ms(5));
  claims.offer({ id: id(2), queue: "q" });
  await clock.advance(RETRY);
  await clock.advance(ms(5));
  expect(state.asked.filter((session) => session === id(1)).length).toBe(2);
});

test("Claims: while a session rests after an error, a wake for one lease makes one session ask", async () => {
  const { clock, claims, state } = farm();
  offerAll(claims, 2);
  await clock.advance(seconds(1));
  claims.wake("q", 2);
  await clock.advance(seconds(1));
  state.fail = 1;
  claims.offer({ id: id(3), queue: "q" });
  await clock.advance(ms(5));
  state.asked.length = 0;
  state.wanted = 1;
  claims.wake("q");
  for (let i = 0; i < 5; i++) await clock.advance(ms(5));
  expect([state.asked.length, state.started.length]).toEqual([1, 1]);
});

test("Claims: a session that is withdrawn while it rests after an error does not ask again", async () => {
  const { clock, claims, state } = farm();
  state.fail = 1;
  claims.offer({ id: id(1), queue: "q" });
  await clock.advance(ms(5));
  state.wanted = 1;
  claims.withdraw(id(1));
  await clock.advance(RETRY);
  await clock.advance(ms(5));
  expect([state.asked, state.started]).toEqual([[id(1)], []]);
});

test("Claims: a session that is withdrawn before it could ask for its own lease does not ask", async () => {
  const { clock, claims, state } = farm({ wanted: MAX_ASKING });
  offerAll(claims, MAX_ASKING);
  claims.wake("q", MAX_ASKING); // all of them ask, so that nobody else can
  claims.offer({ id: id(99), queue: "q", holds: true });
  claims.withdraw(id(99));
  for (let i = 0; i < 5; i++) await clock.advance(ms(5));
  expect([state.started.length, state.asked.includes(id(99))]).toEqual([MAX_ASKING, false]);
});

test("Claims: work that becomes free later is looked at then, without a wake", async () => {
  const clock = new FakeClock();
  const refused = new Set([id(1)]);
  const { claims, state, clock: own } = farm({ wanted: 1, refused, lookAgainAt: clock.now() + 7000 });
  claims.offer({ id: id(1), queue: "q" });
  await own.advance(seconds(6));
  refused.clear();
  expect(state.started).toEqual([]);
  await own.advance(seconds(2));
  await own.advance(ms(5));
  expect(state.started).toEqual([id(1)]);
});

test("Claims: a lost word is made good by the sweep", async () => {
  const { clock, claims, state } = farm();
  claims.offer({ id: id(1), queue: "q" });
  await clock.advance(seconds(1));
  state.wanted = 1;
  await clock.advance(SWEEP);
  await clock.advance(ms(5));
  expect(state.started).toEqual([id(1)]);
});

test("Claims: a withdrawn session is not asked for, and after the end nobody is", async () => {
  const { clock, claims, state, stop } = farm();
  offerAll(claims, 3);
  await clock.advance(seconds(1));
  state.asked.length = 0;
  claims.withdraw(id(1));
  state.wanted = 1;
  claims.wake("q", 3);
  await clock.advance(ms(5));
  expect([state.asked, state.started]).toEqual([[id(2), id(3)], [id(2)]]);
  state.asked.length = 0;
  state.wanted = 5;
  stop.abort(new Error("stopped"));
  claims.wake("q");
  await clock.advance(SWEEP);
  expect([state.asked, state.started, claims.idle("q")]).toEqual([[], [id(2)], 1]);
});
