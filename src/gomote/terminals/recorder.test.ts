import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { quiet } from "../../store/testing/database.ts";
import { MOST, MOST_WAITING, Recorder, WRITE_EVERY } from "./recorder.ts";

/** A database that keeps what is written, unless it is `away`. */
function parts() {
  const kept: Buffer[] = [];
  const state = { kept, away: false };
  const sql = {
    async query<Row>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
      if (state.away) throw new Error("away");
      const [, , packed] = values;
      if (text.includes("gomote_recording_part") && packed instanceof Uint8Array) kept.push(Buffer.from(packed));
      return [];
    },
    tx: () => Promise.reject(new Error("none is needed")),
  };
  const lines = () =>
    kept
      .map((part) => gunzipSync(part).toString())
      .join("")
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  return { ...state, sql, lines, state };
}

test("what is printed becomes an asciicast, characters that came in two pieces whole, sizes only where they change", async () => {
  const clock = new FakeClock();
  const { sql, lines, state } = parts();
  {
    await using recorder = await Recorder.begin({ sql, clock, log: quiet, waiting: { bytes: 0 } }, 7, {
      columns: 80,
      rows: 24,
    });
    clock.jump(WRITE_EVERY);
    const bytes = Buffer.from("hé\r\n");
    recorder.printed(bytes.subarray(0, 2));
    recorder.printed(bytes.subarray(2));
    recorder.resized({ columns: 80, rows: 24 });
    state.away = true;
    await clock.advance(WRITE_EVERY);
    state.away = false;
    recorder.resized({ columns: 100, rows: 30 });
  }
  const [head, ...events] = lines();
  expect(head).toMatchObject({ version: 2, width: 80, height: 24 });
  expect(events.map(([, ...rest]: unknown[]) => rest)).toEqual([
    ["o", "h"],
    ["o", "é\r\n"],
    ["r", "100x30"],
  ]);
});

test("a recording is as long as one may be, and says where it stops", async () => {
  const clock = new FakeClock();
  const { sql, lines } = parts();
  {
    await using recorder = await Recorder.begin({ sql, clock, log: quiet, waiting: { bytes: 0 } }, 7, {
      columns: 80,
      rows: 24,
    });
    for (let bytes = 0; bytes < MOST + 1_000_000; bytes += 100_000) recorder.printed(Buffer.alloc(100_000, "x"));
  }
  const all = lines();
  expect(JSON.stringify(all).length).toBeLessThan(MOST + 200_000);
  expect(all.at(-1)?.[2]).toContain("The recording stops here");
});

test("while the database is away so much waits of all recordings together, and where something is missing each says so", async () => {
  const clock = new FakeClock();
  const [first, second] = [parts(), parts()];
  const waiting = { bytes: 0 };
  const size = { columns: 80, rows: 24 };
  {
    await using one = await Recorder.begin({ sql: first.sql, clock, log: quiet, waiting }, 7, size);
    await using two = await Recorder.begin({ sql: second.sql, clock, log: quiet, waiting }, 8, size);
    const others = waiting.bytes;
    waiting.bytes = MOST_WAITING - 10_000; // of other recordings
    first.state.away = true;
    for (let n = 0; n < 20; n++) one.printed(Buffer.alloc(1000, "1"));
    two.printed(Buffer.alloc(1000, "2"));
    expect(waiting.bytes).toBeLessThanOrEqual(MOST_WAITING);
    waiting.bytes -= MOST_WAITING - 10_000 - others; // written
    one.printed(Buffer.from("again"));
    first.state.away = false;
  }
  const printed = (lines: unknown[][]) => lines.slice(1).map(([, , data]) => String(data));
  const missing = expect.stringContaining("# Something is missing here");
  const [kept, again] = [printed(first.lines()), printed(second.lines())];
  expect([kept.filter((data) => data.startsWith("1")).length, kept.slice(-2)]).toEqual([9, [missing, "again"]]);
  expect([again, waiting.bytes]).toEqual([[missing], 0]);
});

test("what was not written when a recording ended waits no more", async () => {
  const { sql, state } = parts();
  const waiting = { bytes: 0 };
  {
    const deps = { sql, clock: new FakeClock(), log: quiet, waiting };
    await using recorder = await Recorder.begin(deps, 7, { columns: 80, rows: 24 });
    state.away = true;
    recorder.printed(Buffer.alloc(1000, "x"));
  }
  expect(waiting.bytes).toBe(0);
});

test("what comes after the end of a recording, or during its last write, waits for nothing", async () => {
  const { sql, lines } = parts();
  const waiting = { bytes: 0 };
  const deps = { sql, clock: new FakeClock(), log: quiet, waiting };
  const recorder = await Recorder.begin(deps, 7, { columns: 80, rows: 24 });
  recorder.printed(Buffer.from("in time"));
  const ended = recorder[Symbol.asyncDispose]();
  recorder.printed(Buffer.from("late"));
  recorder.resized({ columns: 100, rows: 30 });
  await ended;
  recorder.printed(Buffer.from("later"));
  recorder.resized({ columns: 120, rows: 40 });
  expect(waiting.bytes).toBe(0);
  expect(lines().slice(1)).toEqual([[0, "o", "in time"]]);
});
