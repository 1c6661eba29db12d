/** A machine of a failed build is kept for the person who asked for it, in the transaction that ends the build. */
import { expect, test, vi } from "vitest";
import { personId } from "../farm/ids.ts";
import { askHold } from "../store/gomote-holds.ts";
import { freshDatabase, type TestDatabase } from "../store/testing/database.ts";
import { addHostType, NOON } from "../store/testing/farm.ts";
import { FakeProcess } from "./testing/fake-process.ts";
import { TestFarm } from "./testing/farm.ts";
import { planTests, SOON, testsSpec } from "./testing/tests.ts";

/** A build whose command `fails` has failed, and whose machine a person has now. */
async function failing(database: TestDatabase, fails: "make" | "run") {
  await addHostType(database.sql, "linux");
  const farm = await TestFarm.open(database, { elsewhereFirst: SOON });
  const process = new FakeProcess();
  const build = await planTests(database, testsSpec(["a"]));
  const alice = { owner: personId("U00000000a"), email: "alice@example.org", user: "alice" };
  const what = { build, request: "r", builderType: "linux-amd64", hostType: "linux" };
  const asked = { ...what, ...alice, coordinator: farm.coordinator, perPerson: 1, perHostType: null };
  expect(await askHold(database.sql, asked, NOON)).toBeUndefined();
  const machine = await farm.connect("linux", "m1", { process });
  await vi.waitFor(
    () => {
      for (const { id, command } of process.running) process.exit(id, command.cmd === fails ? "exit status 1" : "ok");
      expect(farm.lent.length).toBe(1);
    },
    { timeout: 10_000, interval: 5 },
  );
  return { farm, machine };
}

/** The leases of a machine, in order, each with the build as a reader sees it. */
const LEASES = `select b.state, b.outcome, l.kind as lease, l.state as held, g.keeps
  from build b, lease l left join gomote_instance g on g.lease_id = l.id where l.session_id = $1 order by l.id`;

test.each(["make", "run"] as const)(
  "a build whose %s fails gives its machine, as it is, to whoever waits for that",
  async (fails) => {
    await using database = await freshDatabase();
    const { farm, machine } = await failing(database, fails);
    await using _ = farm;
    expect(farm.released).toEqual([{ name: "m1", how: "kept" }]);
    expect(await database.sql.query(LEASES, [machine.id])).toEqual([
      { state: "ended", outcome: "failure", lease: "build", held: "ended", keeps: null },
      { state: "ended", outcome: "failure", lease: "gomote", held: "held", keeps: true },
    ]);
    expect(machine.calls.filter((call) => call === "removeall .").length).toBe(1);
  },
);

test("nobody ever sees a build that has failed and its machine free, or a machine kept of a build that goes on", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  // What a crash at this moment would leave is what another transaction sees.
  await sql.query("create table seen (failed boolean, kept boolean)");
  await sql.query(
    `create function look() returns trigger language plpgsql as $$ begin
       insert into seen select b.outcome = 'failure', h.instance_id is not null from build b, gomote_hold h where b.id = h.build_id;
       return null;
     end $$`,
  );
  // Deferred triggers run at the commit of whatever changed the build.
  await sql.query(
    "create constraint trigger look after update on build deferrable initially deferred for each row when (new.state = 'ended') execute function look()",
  );
  const { farm } = await failing(database, "make");
  await using _ = farm;
  expect(await sql.query("select * from seen")).toEqual([{ failed: true, kept: true }]);
});
