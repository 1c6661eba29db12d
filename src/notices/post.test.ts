import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, epochMs, minutes, ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { insertNotices, takeNotices, undeliveredNotices } from "../store/notices.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { NOON } from "../store/testing/farm.ts";
import { testMessage } from "./message.ts";
import { nextTry, Post, TRIES } from "./post.ts";
import { recipientLabel } from "./recipients.ts";

const hostType = "host-linux-amd64-a";
const config = checkFarm({
  repos: [{ name: "app", url: "." }],
  hosts: [{ hostType }],
  builders: [{ name: "linux-amd64", host: hostType, steps: ["make"] }],
  notify: { operators: ["ops@example.org", "https://chat.example.org/hook/secret-part"] },
});

function post(database: TestDatabase, clock: FakeClock, send: (id: number) => Promise<void>): Post {
  return new Post({
    sql: database.sql,
    bus: database.bus,
    clock,
    log: quiet,
    config: () => config,
    send: (_recipient, _message, id) => send(id),
  });
}

async function write(database: TestDatabase, recipients: readonly string[]): Promise<void> {
  const message = testMessage({ farm: "F", url: null }, NOON);
  await insertNotices(
    database.sql,
    recipients.map((recipient) => ({ recipient, message })),
    NOON,
  );
}

const states = (database: TestDatabase) =>
  database.sql.query<{ state: string; tries: number; error: string | null }>(
    "select state, tries, error from notice order by id",
  );

test("two coordinators send each message once", async () => {
  await using database = await freshDatabase();
  await write(database, Array<string>(50).fill("mail:ops@example.org"));
  const sent: number[] = [];
  const clock = new FakeClock(NOON);
  await using one = post(database, clock, async (id) => void sent.push(id));
  await using other = post(database, clock, async (id) => void sent.push(id));
  await Promise.all([one.round(), other.round()]);
  await Promise.all([one[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
  expect(sent.length).toBe(50);
  expect(new Set(sent).size).toBe(50);
});

test("what fails is tried again with longer pauses, and is a dead letter after the last try", async () => {
  await using database = await freshDatabase();
  await write(database, ["webhook:https://chat.example.org/hook/secret-part"]);
  const clock = new FakeClock(NOON);
  let tries = 0;
  await using mailman = post(database, clock, async () => {
    tries++;
    throw new FarmError("unavailable", "The webhook answered 500");
  });
  const undelivered = () => undeliveredNotices(database.sql, NOON, 10);
  const refused = { title: "[F] test message", error: "The webhook answered 500" };
  await mailman.round();
  expect(await undelivered()).toEqual([]); // once may be chance
  clock.jump(minutes(1));
  await mailman.round();
  expect(await undelivered()).toMatchObject([{ ...refused, againAt: NOON + 2 * 60_000 }]);
  for (let minute = 0; minute < 12 * 60; minute++) {
    await mailman.round();
    clock.jump(minutes(1));
  }
  expect(tries).toBe(TRIES);
  expect(await states(database)).toEqual([{ state: "dead", tries: TRIES, error: "The webhook answered 500" }]);
  expect(await undelivered()).toMatchObject([{ ...refused, againAt: null }]);
  expect(recipientLabel("webhook:https://chat.example.org/hook/secret-part")).toBe("https://chat.example.org/…");
});

test("pauses double from half a minute to an hour", () => {
  let now: EpochMs = NOON;
  const pauses: number[] = [];
  for (let tries = 1; tries < TRIES; tries++) {
    const next = nextTry(tries, now) ?? now;
    pauses.push((next - now) / 60_000);
    now = next;
  }
  expect(pauses).toEqual([0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60]);
  expect(nextTry(TRIES, now)).toBeUndefined();
});

test("a message that a coordinator took and never sent is sent by another, under the same id", async () => {
  await using database = await freshDatabase();
  await write(database, ["mail:ops@example.org"]);
  const [taken] = await takeNotices(database.sql, 10, ms(60_000), NOON); // and then it is killed
  const clock = new FakeClock(NOON);
  const sent: number[] = [];
  await using mailman = post(database, clock, async (id) => void sent.push(id));
  expect(await mailman.round()).toBe(0);
  clock.jump(minutes(2));
  await mailman.round();
  expect(sent).toEqual([taken?.id]);
  expect(await states(database)).toEqual([{ state: "sent", tries: 2, error: null }]);
});

test("a recipient that was taken out of the configuration is not told", async () => {
  await using database = await freshDatabase();
  await write(database, ["mail:gone@example.org"]);
  await using mailman = post(database, new FakeClock(epochMs(NOON)), async () => expect.unreachable());
  await mailman.round();
  const error = "the configuration does not have this recipient any more";
  expect(await states(database)).toEqual([{ state: "dead", tries: 1, error }]);
});

test("a stop does not wait for a mail server, and what was being sent is sent by whoever takes it next", async () => {
  await using database = await freshDatabase();
  await write(database, ["mail:ops@example.org"]);
  const clock = new FakeClock(NOON);
  const sending = Promise.withResolvers<void>();
  const stopped = post(database, clock, () => {
    sending.resolve();
    return new Promise(() => {});
  });
  await sending.promise;
  await stopped[Symbol.asyncDispose]();
  expect(await states(database)).toEqual([{ state: "waiting", tries: 1, error: null }]);
  clock.jump(minutes(1));
  await using next = post(database, clock, async () => {});
  await next.round();
  expect(await states(database)).toEqual([{ state: "sent", tries: 2, error: null }]);
});
