import { expect, test } from "vitest";
import { epochMs, ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { insertNotices, noticeFailed, takeNotices } from "../store/notices.ts";
import type { Sql } from "../store/sql.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
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

test("a mail server that refuses every message is seen while they are still tried", async () => {
  await using database = await freshDatabase();
  const { sql, bus } = database;
  const clock = new FakeClock(epochMs(Date.UTC(2026, 10, 26, 12)));
  await insertNotices(sql, [{ recipient: "mail:ops@example.org", message: { title: "a is missing" } }], clock.now());
  for (let tries = 0; tries < 2; tries++) {
    const [taken] = await takeNotices(sql, 1, seconds(0), clock.now());
    await noticeFailed(sql, taken?.id ?? 0, "535 wrong password", clock.now(), clock.now());
  }
  await using health = new Health({ sql, bus, clock, log: quiet, repos: () => [], startedAt: clock.now() });
  await expect
    .poll(() => health.results().find(({ id }) => id === "notices")?.lines)
    .toEqual([
      {
        level: "warn",
        text: "2026-11-26 12:00 UTC: ops@example.org was not told “a is missing”, trying again at 2026-11-26 12:00 UTC: 535 wrong password",
      },
    ]);
});
