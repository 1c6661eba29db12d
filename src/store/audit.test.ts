import { expect, test } from "vitest";
import { auditOf, newAct, recordAudit } from "./audit.ts";
import { insertInstances } from "./gomote.ts";
import { commandBegan, commandsOf, killAsked } from "./gomote-commands.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCoordinator, addHostType, NOON } from "./testing/farm.ts";
import { repeated } from "./testing/repeated.ts";

const ALICE = { who: "alice@example.org", subject: "gomote:a", detail: null };

test("what is written down again, since its answer was lost, is in the audit once; the same done twice is there twice", async () => {
  await using database = await freshDatabase();
  const sql = repeated(database.sql);
  for (let n = 0; n < 2; n++) {
    const act = newAct(NOON);
    await sql.tx((tx) => recordAudit(tx, { ...act, ...ALICE, action: "gomote read" }));
    await recordAudit(sql, { ...newAct(NOON), ...ALICE, action: "gomote write" });
  }
  const lines = await auditOf(database.sql, "gomote:a", 10);
  expect(lines.map(({ action }) => action).toSorted()).toEqual([
    "gomote read",
    "gomote read",
    "gomote write",
    "gomote write",
  ]);
});

test("a command whose beginning is written down again is one command, as is the wish to kill it", async () => {
  await using database = await freshDatabase();
  const sql = repeated(database.sql);
  const coordinator = await addCoordinator(database.sql, "P000000001", NOON);
  await addHostType(database.sql, "h");
  const wanted = {
    ...{ request: "one", owner: "U1" as never, email: ALICE.who, user: "alice", builderType: "h", hostType: "h" },
    ...{ coordinator, until: NOON, perPerson: 5, perHostType: null },
  };
  await insertInstances(sql, [wanted], NOON);
  const begun = { instance: 1, coordinator, who: ALICE.who, command: "true", dir: "" };
  const number = await commandBegan(sql, begun, NOON, { ...newAct(NOON), ...ALICE, action: "gomote run" });
  await killAsked(sql, number, "killed", { ...newAct(NOON), ...ALICE, action: "gomote kill" });
  expect((await commandsOf(database.sql, { instance: 1 }, null, 10)).map(({ id }) => id)).toEqual([number]);
  const lines = await database.sql.query<{ action: string }>("select action from audit order by id");
  expect(lines.map(({ action }) => action)).toEqual(["gomote create", "gomote run", "gomote kill"]);
});
