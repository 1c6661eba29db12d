import { expect, test } from "vitest";
import { ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import type { OriginalBuildletOptions } from "../machines/testing/original-buildlet.ts";
import { newAct } from "../store/audit.ts";
import { coordinatorEnded } from "../store/coordinators.ts";
import { commandBegan, commandOfInstance, killAsked } from "../store/gomote-commands.ts";
import type { Sql } from "../store/sql.ts";
import { quiet } from "../store/testing/database.ts";
import { addCoordinator, NOON } from "../store/testing/farm.ts";
import { RunningCommands } from "./running-commands.ts";
import { type GomoteFarm, gomoteFarm, HOST_TYPE } from "./testing/farm.ts";
import { OK, type RpcClient } from "./testing/rpc-client.ts";

const AGENT = { digest: "", platform: "linux/amd64", instance: "a".repeat(32), resume: 1 };
const ALICE = "alice@example.org";
const SHELL = { who: ALICE, command: "a shell", dir: "", action: "gomote shell", detail: "shell" };

/** Alice, with her instance number 1. */
async function withInstance(farm: GomoteFarm): Promise<{ alice: RpcClient; name: string }> {
  const alice = await farm.person(ALICE);
  const call = alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", { builder_type: HOST_TYPE });
  expect((await call.ended).code).toBe(OK);
  return { alice, name: call.messages.at(-1)?.instance?.gomote_id ?? "" };
}

/** The commands that another coordinator attends to. */
async function elsewhere(farm: GomoteFarm, sql: Sql = farm.database.sql) {
  const coordinator = await addCoordinator(farm.database.sql, "P0000000bb");
  const clock = new FakeClock(NOON);
  const { bus } = farm.database;
  const instances = { here: () => undefined };
  return { coordinator, clock, running: new RunningCommands({ sql, bus, clock, log: quiet, coordinator, instances }) };
}

/** How the command of this number ended. */
async function end({ database }: GomoteFarm, number: number): Promise<string | null | undefined> {
  const ran = await commandOfInstance(database.sql, 1, number);
  return ran?.endedAt === null ? "it runs" : ran?.state;
}

/**
 * The database, except that `call` is called after each statement that begins so, before anybody hears of its result.
 */
function intercepted(sql: Sql, beginning: RegExp, call: (rows: readonly unknown[]) => Promise<void>): Sql {
  return {
    tx: (work) => sql.tx(work),
    async query<Row>(text: string, params?: readonly unknown[]) {
      const rows = await sql.query<Row>(text, params);
      if (beginning.test(text)) await call(rows);
      return rows;
    },
  };
}

test("what a coordinator attended to that ended is ended where it runs still, by whoever has the machine", async () => {
  await using farm = await gomoteFarm();
  const { sql } = farm.database;
  const { running } = farm.gomote;
  const machine = await farm.machines.machine({ agent: AGENT });
  await withInstance(farm);
  const coordinator = await addCoordinator(sql, "P0000000bb");
  const begin = () => commandBegan(sql, { instance: 1, coordinator, who: ALICE, command: "long", dir: "" }, NOON);
  const [left, killed] = [await begin(), await begin()];
  await running.look();
  expect(await end(farm, left)).toBe("it runs"); // its coordinator lives
  const entry = { ...newAct(NOON), who: ALICE, action: "gomote kill", subject: "gomote:1", detail: "" };
  await killAsked(sql, killed, "it was killed by the owner of the machine", entry);
  await coordinatorEnded(sql, coordinator, NOON);
  await sql.query("update lease set parked_until = now() + interval '1 minute'");
  await running.look();
  expect(await end(farm, left)).toBe("it runs"); // it does, and its machine is away
  await sql.query("update lease set parked_until = null");
  machine.calls.length = 0;
  await running.look();
  await until(async () => (await end(farm, left)) !== "it runs", "it to be over");
  await until(async () => (await end(farm, killed)) !== "it runs", "the other one to be over");
  expect(await Promise.all([left, killed].map((number) => end(farm, number)))).toEqual([
    "nobody attended to it any more",
    "it was killed by the owner of the machine",
  ]);
  expect(machine.calls.filter((call) => call.startsWith("POST")).toSorted()).toEqual([
    `POST /exec-end id=g1.${left}`,
    `POST /exec-end id=g1.${killed}`,
  ]);
});

test("what was left is over with its instance", async () => {
  await using farm = await gomoteFarm();
  const { sql } = farm.database;
  await farm.machines.machine({ agent: AGENT });
  const { alice, name } = await withInstance(farm);
  const coordinator = await addCoordinator(sql, "P0000000bb");
  const left = await commandBegan(sql, { instance: 1, coordinator, who: ALICE, command: "long", dir: "" }, NOON);
  await coordinatorEnded(sql, coordinator, NOON);
  expect(await alice.call("DestroyInstance", { gomote_id: name })).toEqual({});
  await farm.gomote.running.look();
  await until(async () => (await end(farm, left)) === "its instance ended", "it to be over");
});

test("what its coordinator does not attend to, since its end was not stored or its beginning not heard of, is left", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({ agent: AGENT });
  await withInstance(farm);
  const { database, gomote } = farm;
  let away = false;
  const sql = intercepted(database.sql, /set ended_at|insert into gomote_command/, async () => {
    if (away) throw new Error("The database is away");
  });
  const flaky: Sql = {
    tx: (work) => sql.tx(work),
    query: (text, params) =>
      away && /set ended_at/.test(text) ? Promise.reject(new Error("It is away")) : sql.query(text, params),
  };
  const { running, clock } = await elsewhere(farm, flaky);
  await using _ = running;
  const [goesOn, ends] = [
    await running.begin({ id: 1, name: "a" }, SHELL),
    await running.begin({ id: 1, name: "a" }, SHELL),
  ];
  away = true;
  await ends.ended("ok");
  await expect(running.begin({ id: 1, name: "a" }, SHELL)).rejects.toThrow("away"); // it is written down all the same
  away = false;
  await clock.advance(ms(1));
  await running.look();
  await gomote.running.look(); // where the machine is
  for (const number of [ends.number, ends.number + 1])
    await until(async () => (await end(farm, number)) === "nobody attended to it any more", "it to be over");
  expect(await end(farm, goesOn.number)).toBe("it runs");
});

test("a kill between a beginning and whoever begins it hearing of it is not missed", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({ agent: AGENT });
  const { alice, name } = await withInstance(farm);
  let kill: Promise<unknown> | undefined;
  const sql = intercepted(farm.database.sql, /insert into gomote_command/, async (rows) => {
    const [{ id } = { id: 0 }] = rows as readonly { readonly id: number }[];
    const asked = alice.call("KillExecution", { gomote_id: name, execution_id: String(id) }, "barnraiser.Gomote");
    kill = asked;
    await until(
      async () => (await commandOfInstance(farm.database.sql, 1, id))?.kill !== null,
      "the kill to be written down",
    );
  });
  const { running, clock } = await elsewhere(farm, sql);
  await using _ = running;
  const shell = await running.begin({ id: 1, name }, SHELL);
  const over = new Promise<void>((resolve) => {
    shell.killed.addEventListener("abort", () => resolve(shell.ended("whatever")), { once: true });
  });
  await until(async () => {
    await clock.advance(seconds(10));
    return shell.killed.aborted;
  }, "it to hear that it is killed");
  await over;
  expect(await kill).toEqual({});
  expect(await end(farm, shell.number)).toBe("it was killed by whoever ran it");
});

test("a kill is done once it is over, not before, and can be asked again; who asked first is told of", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({ agent: AGENT });
  await withInstance(farm);
  const { running, clock } = await elsewhere(farm);
  await using _ = running;
  const instance = { id: 1, name: "a" };
  const shell = await running.begin(instance, SHELL);
  const owner = { who: "keeper@example.org", as: "owner of the machine" } as const;
  const number = String(shell.number);
  const asleep = clock.sleeping;
  const first = running.kill(instance, number, owner).catch((error: Error) => error.message);
  await until(() => shell.killed.aborted && clock.sleeping > asleep, "it to hear of it");
  await clock.advance(seconds(20));
  expect(await first).toBe(
    `Command ${number} of a is to end, and has not yet: it does as soon as its machine can be reached.`,
  );
  expect(await end(farm, shell.number)).toBe("it runs");
  const audit = () => farm.database.sql.query("select who, detail from audit where action = 'gomote kill' order by id");
  const again = running.kill(instance, number, { who: ALICE, as: "borrower" });
  await until(async () => (await audit()).length === 2, "it to be asked again");
  await shell.ended("it went away");
  await again;
  expect(await end(farm, shell.number)).toBe("it was killed by the owner of the machine");
  await running.kill(instance, number, owner); // it is over
  await expect(running.kill({ id: 2, name: "b" }, number, owner)).rejects.toThrow(
    `There is no command "${number}" of b`,
  );
  expect(await audit()).toEqual([
    { who: owner.who, detail: "a shell" },
    { who: ALICE, detail: "a shell" },
  ]);
});

test("a command whose machine is away may run still; when its agent is back it is ended there", async () => {
  await using farm = await gomoteFarm();
  const exec: OriginalBuildletOptions["exec"] = async (_, io) => {
    await io.write("begun\n");
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
    return "signal: killed";
  };
  const machine = await farm.machines.machine({ agent: AGENT, exec });
  const { alice, name } = await withInstance(farm);
  const call = alice.stream("ExecuteCommand", { gomote_id: name, command: "long" });
  await call.have(1);
  await machine[Symbol.asyncDispose]();
  expect((await call.ended).code).toBe(14);
  await farm.gomote.running.look();
  expect(await end(farm, 1)).toBe("it runs");
  const back = await farm.machines.machine({ agent: AGENT });
  await until(async () => {
    await farm.gomote.running.look();
    return (await end(farm, 1)) !== "it runs";
  }, "it to be over");
  expect([await end(farm, 1), back.calls.filter((each) => each.startsWith("POST"))]).toEqual([
    "nobody attended to it any more",
    ["POST /exec-end id=g1.1"],
  ]);
});

test("a command whose output nobody takes any more is killed, and is over then", async () => {
  await using farm = await gomoteFarm();
  let written = 0;
  const exec: OriginalBuildletOptions["exec"] = async (_, io) => {
    for (; !io.signal.aborted; written++) await io.write(Buffer.alloc(1 << 18, "x"));
    return "signal: killed";
  };
  await farm.machines.machine({ exec });
  const { alice, name } = await withInstance(farm);
  const call = alice.stream("ExecuteCommand", { gomote_id: name, command: "endless" });
  await call.have(1);
  call.pause();
  let before = -1;
  await until(async () => {
    before = written;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return written > 0 && written === before;
  }, "it to be held back");
  const owner = await farm.person(ALICE);
  expect(await owner.call("KillExecution", { gomote_id: name, execution_id: "1" }, "barnraiser.Gomote")).toEqual({});
  expect(await end(farm, 1)).toBe("it was killed by whoever ran it");
  call.cancel();
});
