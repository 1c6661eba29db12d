/** Calls that go on, and tokens that do not. */
import { expect, test } from "vitest";
import type { GomoteConfig } from "../../config/effective.ts";
import { FarmError } from "../../farm/errors.ts";
import { minutes, type PersonId, personId } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { quiet } from "../../store/testing/database.ts";
import { type GomoteFarm, gomoteFarm, HOST_TYPE } from "../testing/farm.ts";
import { OK, type RpcClient } from "../testing/rpc-client.ts";
import type { Caller } from "./faces.ts";
import { LetIn, LOOK_EVERY, mostCalls } from "./let-in.ts";

const UNAUTHENTICATED = 16;

interface Created {
  readonly instance: { readonly gomote_id: string } | null;
}

async function withCommand(farm: GomoteFarm, alice: RpcClient) {
  await farm.machines.machine({
    exec: async (_, io) => {
      await io.write("begun\n");
      await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
      return "signal: killed";
    },
  });
  const created = alice.stream<Created>("CreateInstance", { builder_type: HOST_TYPE });
  expect(await created.ended).toMatchObject({ code: OK });
  const gomote_id = created.messages.at(-1)?.instance?.gomote_id ?? "";
  const call = alice.stream("ExecuteCommand", { gomote_id, command: "long" });
  await call.have(1);
  return { gomote_id, call };
}

test("a person has so many calls at a time, and others have theirs", async () => {
  await using farm = await gomoteFarm();
  const identify = async (bearer: string) => ({ id: personId(`U00000000${bearer}`) }) as Caller;
  const { bus } = farm.database;
  const config = () => ({ gomote: { perPerson: 20 } as GomoteConfig });
  await using letIn = new LetIn({ people: { identify }, bus, clock: new FakeClock(), log: quiet, config });
  const calls = Array.from({ length: mostCalls(20) }, () => new AbortController());
  for (const { signal } of calls) await letIn.admit("a", signal);
  const more = () => letIn.admit("a", new AbortController().signal);
  await expect(more()).rejects.toMatchObject({
    code: "too-large",
    message: "Cannot take another call of yours: 1024 go on, and 1024 may at a time; wait until one has ended.",
  });
  await letIn.admit("b", new AbortController().signal);
  calls[0]?.abort();
  await more();
  expect([mostCalls(1), mostCalls(40)]).toEqual([1024, 2000]);
});

test("a token that is revoked ends the calls that it let in, with the reason, and nothing else", async () => {
  await using farm = await gomoteFarm();
  const person = await farm.people.add("alice@example.org", ["member"], "test");
  const stolen = await farm.people.newToken(person, "laptop", minutes(60), "test");
  const { gomote_id, call } = await withCommand(farm, farm.client(stolen.token));
  const waiting = farm.client(stolen.token).stream("CreateInstance", { builder_type: HOST_TYPE });
  await waiting.have(1);
  const own = await farm.person("alice@example.org");
  const other = own.stream("ExecuteCommand", { gomote_id, command: "long" });
  await other.have(1);
  await farm.people.revokeToken(stolen.id, null, "operator");
  const told = {
    code: UNAUTHENTICATED,
    details: expect.stringMatching(/^Cannot let you in with this token: T\w+ was revoked on [-\d]+\. /),
  };
  expect(await call.ended).toEqual(told);
  expect(await waiting.ended).toEqual(told);
  const commands = () =>
    farm.database.sql.query<{ state: string | null }>("select state from gomote_command order by id");
  await until(async () => (await commands())[0]?.state !== null, "its end to be written down");
  expect(await commands()).toEqual([{ state: told.details }, { state: null }]);
  expect(await own.call("InstanceAlive", { gomote_id })).toEqual({});
  other.cancel();
});

test("a token that expires ends its calls within a minute; while nobody can say whether it is good, they go on", async () => {
  const clock = new FakeClock();
  const owner: PersonId = personId("U000000001");
  let refusal: FarmError | undefined;
  const identify = async (): Promise<Caller> => {
    if (refusal) throw refusal;
    return { id: owner, email: "alice@example.org", name: "alice", roles: ["member"] };
  };
  await using farm = await gomoteFarm({ clock, identify });
  const { call } = await withCommand(farm, farm.client("token"));
  refusal = new FarmError("unavailable", "The database is away");
  await clock.advance(LOOK_EVERY);
  refusal = new FarmError("unauthenticated", "Cannot let you in with this token: it expired.");
  let over = false;
  void call.ended.finally(() => {
    over = true;
  });
  await until(async () => {
    if (!over) await clock.advance(LOOK_EVERY);
    return over;
  }, "the call to be ended");
  expect(await call.ended).toEqual({ code: UNAUTHENTICATED, details: refusal.message });
});
