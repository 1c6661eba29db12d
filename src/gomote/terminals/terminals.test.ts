import { duplexPair } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { personId } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import { addCoordinator } from "../../store/testing/farm.ts";
import type { HeldInstance } from "../holdings.ts";
import { RunningCommands } from "../running-commands.ts";
import { MOST_OF_PERSON, Terminals } from "./terminals.ts";

const SIZE = { columns: 80, rows: 24 };
const ALICE: Person = { id: personId("U000000001"), email: "alice@example.org", name: "alice", roles: [] };

let database: TestDatabase;
beforeEach(async () => {
  database = await freshDatabase();
});
afterEach(() => database[Symbol.asyncDispose]());

test("however many shells somebody asks for at once, they get so many; a machine's is closed when it cannot be written down", async () => {
  const { sql, bus } = database;
  const coordinator = await addCoordinator(sql, "P000000001");
  const machines: ReturnType<typeof duplexPair>[0][] = [];
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const client = {
    async openShell() {
      await answered;
      const [ours, theirs] = duplexPair();
      machines.push(theirs);
      return ours;
    },
  };
  // No row has its number, so no command of it can be written down.
  const held = {
    instance: { id: 77, name: "a" },
    machine: { agent: "ours", name: "m", client },
    over: new AbortController().signal,
  };
  const instances = { held: async () => held as unknown as HeldInstance, keep: () => ({ [Symbol.dispose]() {} }) };
  const own = { sql, bus, clock: systemClock, log: quiet, coordinator, instances: { here: () => undefined } };
  await using commands = new RunningCommands(own);
  await using terminals = new Terminals({ sql, clock: systemClock, log: quiet, instances, commands });
  const never = new AbortController().signal;
  const opened = Array.from({ length: MOST_OF_PERSON + 4 }, () =>
    terminals.open(ALICE, "a", SIZE, never).then(
      () => "open",
      (error: Error) => error.message,
    ),
  );
  answer();
  const said = await Promise.all(opened);
  const refused = said.filter((each) => each.startsWith(`You have ${MOST_OF_PERSON} shells open`));
  expect([refused.length, machines.length]).toEqual([4, MOST_OF_PERSON]);
  for (const machine of machines) {
    machine.resume();
    if (!machine.readableEnded) await new Promise((ended) => machine.once("end", ended).once("close", ended));
  }
  expect(await terminals.open(ALICE, "a", SIZE, never).catch((error: Error) => error.message)).not.toContain(
    "close one",
  );
});
