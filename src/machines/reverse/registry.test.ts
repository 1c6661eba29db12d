import { expect, test } from "vitest";
import { FarmError } from "../../farm/errors.ts";
import { seconds, sessionId } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import type { Sql } from "../../store/sql.ts";
import { freshDatabase, quiet } from "../../store/testing/database.ts";
import { addCoordinator } from "../../store/testing/farm.ts";
import { Registry } from "./registry.ts";

const registered = {
  session: sessionId("1".repeat(32)),
  hostType: "host-a",
  name: "river",
  owner: null,
  keyId: null,
  agent: "barnraiser",
  version: 29,
  digest: null,
  platform: null,
  instance: null,
  ip: "10.0.0.1",
  address: "10.0.0.1:4000",
} as const;

test("the end of a session is written once the database is back, however often that was refused; a stop waits for none", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  let away = false;
  let refused = 0;
  const sql: Sql = {
    query: async (text, values) => {
      if (!away) return database.sql.query(text, values);
      refused++;
      throw new FarmError("unavailable", "The database is away");
    },
    tx: (work) => database.sql.tx(work),
  };
  const coordinator = await addCoordinator(database.sql);
  const stop = new AbortController();
  const registry = new Registry({ sql, bus: database.bus, clock, log: quiet, coordinator }, stop.signal);
  const open = () => database.sql.query<{ id: string }>("select id from session where closed_at is null");
  await registry.open(registered);
  away = true;
  registry.close(registered.session, clock.now(), "hung up");
  for (let second = 0; second < 10; second++) await clock.advance(seconds(1));
  expect(refused).toBeGreaterThan(5);
  expect(await open()).toHaveLength(1);
  away = false;
  const settled = registry.settled();
  await clock.advance(seconds(1));
  await settled;
  expect(await open()).toEqual([]);

  const again = sessionId("2".repeat(32));
  await registry.open({ ...registered, session: again });
  away = true;
  stop.abort();
  registry.close(again, clock.now(), "the coordinator ended");
  await registry.settled();
  expect(await open()).toEqual([{ id: again }]);
});
