import { expect, test } from "vitest";
import { ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import type { Sql } from "../store/sql.ts";
import { Health, LOOK_PAUSE } from "./health.ts";

test("the farm's health is looked at soon after a change, and in a burst of builds not more often than every LOOK_PAUSE", async () => {
  const clock = new FakeClock();
  let looks = 0;
  const sql: Sql = {
    query: async (text) => {
      if (text.includes("from coordinator c where c.ended_at is null order by c.started_at")) looks++;
      return [];
    },
    tx: (work) => work(sql),
  };
  let publish = (_topic: string): void => {};
  const bus = {
    publish() {},
    subscribe(_prefix: string, listener: (topic: string) => void) {
      publish = listener;
    },
  };
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  await using _health = new Health({ sql, bus, clock, log, repos: () => [], startedAt: clock.now() });
  await clock.advance(seconds(5));
  const before = looks;
  publish("machine:1");
  await clock.advance(ms(0)); // it has heard that
  await clock.advance(ms(250));
  expect(looks - before).toBe(1);
  const burst = 10 * LOOK_PAUSE;
  for (let span = 0; span < burst; span += 100) {
    publish("machine:1");
    await clock.advance(ms(100));
  }
  expect(looks - before).toBeGreaterThan(8);
  expect(looks - before).toBeLessThanOrEqual(11);
});
