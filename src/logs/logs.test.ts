import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { type LogId, logId } from "../farm/ids.ts";
import { emptyLog } from "../store/logs.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, type TestDatabase } from "../store/testing/database.ts";
import { Logs } from "./logs.ts";
import { CHUNK, HIGH_WATER } from "./writer.ts";

function open(database: TestDatabase, limitBytes?: number): Logs {
  const deps = { sql: database.sql, bus: database.bus, clock: systemClock };
  return new Logs(limitBytes === undefined ? deps : { ...deps, limitBytes });
}

async function all(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const list: Buffer[] = [];
  for await (const part of parts) list.push(part);
  return Buffer.concat(list);
}

async function written(logs: Logs, chunks: readonly Buffer[]): Promise<LogId> {
  const id = await logs.create();
  const writer = logs.writer(emptyLog(id, 0));
  for (const chunk of chunks) await writer.write(chunk);
  await writer.close();
  return id;
}

const ODD_BYTES = Buffer.concat([
  Buffer.from("a\0b\n\xff\xfe\x1b[31m<b>\r\n", "latin1"),
  randomBytes(3000),
  Buffer.from("\n"),
]);

test("Logs: any bytes come back as they were written, whole and by range", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 12 }),
      fc.nat(9000),
      fc.nat(9000),
      async (parts, a, b) => {
        const chunks = parts.map((part) => Buffer.from(part));
        const whole = Buffer.concat(chunks);
        const id = await written(logs, chunks);
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        expect(await all(logs.read(id))).toEqual(whole);
        expect(await all(logs.read(id, from, to))).toEqual(whole.subarray(from, to));
        expect((await logs.state(id)).length).toBe(whole.length);
      },
    ),
    { numRuns: 30 },
  );
});

test("Logs: one write of 9 MB without newlines, then odd bytes; ranges over chunk edges; lines", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  const huge = Buffer.alloc(9 * CHUNK + 17, "x");
  const id = await written(logs, [Buffer.from("first\n"), huge, ODD_BYTES]);
  const whole = Buffer.concat([Buffer.from("first\n"), huge, ODD_BYTES]);
  expect((await all(logs.read(id))).equals(whole)).toBe(true);
  for (const from of [0, 5, CHUNK - 1, CHUNK, 3 * CHUNK + 1, whole.length - 1, whole.length, whole.length + 9]) {
    expect((await all(logs.read(id, from, from + CHUNK + 2))).equals(whole.subarray(from, from + CHUNK + 2))).toBe(
      true,
    );
  }
  const third = 6 + huge.length + ODD_BYTES.indexOf(10) + 1;
  expect([await logs.lineStart(id, 1), await logs.lineStart(id, 2), await logs.lineStart(id, 3)]).toEqual([
    0,
    6,
    third,
  ]);
  expect(await logs.lineStart(id, 100_000)).toBeUndefined();
  expect([await logs.lineOf(id, 0), await logs.lineOf(id, 5 * CHUNK), await logs.lineOf(id, third)]).toEqual([1, 2, 3]);
});

test("Logs: lineStart() and lineOf() agree with the text, over many chunks", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  const text = Array.from({ length: 60_000 }, (_, i) => `line ${i + 1} ${"y".repeat(i % 60)}\n`).join("");
  const id = await written(logs, [Buffer.from(text)]);
  for (const line of [1, 2, 777, 29_999, 30_000, 59_999, 60_000]) {
    const offset = text.indexOf(`line ${line} `);
    expect([await logs.lineStart(id, line), await logs.lineOf(id, offset), await logs.lineOf(id, offset + 3)]).toEqual([
      offset,
      line,
      line,
    ]);
  }
  expect(await logs.lineStart(id, 60_001)).toBe(text.length);
});

test("[coordinator 73] over the limit the log says so and counts what it dropped, and readers get their end", async () => {
  await using database = await freshDatabase();
  await using logs = open(database, 1000);
  const id = await written(logs, [Buffer.alloc(600, "a"), Buffer.alloc(600, "b"), Buffer.alloc(50, "c")]);
  const text = (await all(logs.tail(id, 0, new AbortController().signal))).toString();
  expect(text).toBe(
    `${"a".repeat(600)}${"b".repeat(400)}\n` +
      "barnraiser: the limit of 1000 bytes is reached; the rest of the output is dropped\nbarnraiser: 250 bytes were dropped\n",
  );
  expect(await logs.state(id)).toMatchObject({ ended: true, truncated: true, length: text.length });
});

test("Logs: followers here and at another coordinator see bytes before the log ended, in order, and then its end", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  await using elsewhere = open(database); // its own memory; hears through the same bus
  const id = await logs.create();
  const writer = logs.writer(emptyLog(id, 0));
  const seen = ["", ""];
  const follow = async (from: Logs, i: number) => {
    for await (const part of from.tail(id, 0, new AbortController().signal)) seen[i] += part.toString();
  };
  const done = [follow(logs, 0), follow(elsewhere, 1)];
  for (let i = 0; i < 5; i++) {
    await writer.write(Buffer.from(`part ${i}\n`));
    await vi.waitFor(() => expect(seen.every((text) => text.endsWith(`part ${i}\n`))).toBe(true), {
      timeout: 3000,
      interval: 5,
    });
  }
  await writer.close();
  await Promise.all(done);
  const text = "part 0\npart 1\npart 2\npart 3\npart 4\n";
  expect(seen).toEqual([text, text]);
});

test("Logs: a follower goes on from its offset, and stops when its signal aborts", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  const id = await logs.create();
  const writer = logs.writer(emptyLog(id, 0));
  await writer.write(Buffer.from("0123456789"));
  const stop = new AbortController();
  let seen = "";
  const done = (async () => {
    for await (const part of logs.tail(id, 4, stop.signal)) seen += part.toString();
  })();
  await vi.waitFor(() => expect(seen).toBe("456789"), { timeout: 3000, interval: 5 });
  stop.abort();
  await done;
  await writer.close();
});

test("Logs: a reader that does not read holds back neither the writer nor other readers", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  const id = await logs.create();
  const writer = logs.writer(emptyLog(id, 0));
  const slow = logs.tail(id, 0, new AbortController().signal);
  await writer.write(Buffer.from("x"));
  await slow.next(); // and never again
  const data = randomBytes(CHUNK);
  for (let i = 0; i < 12; i++) await writer.write(data);
  await writer.close();
  let length = 0;
  for await (const part of logs.tail(id, 0, new AbortController().signal)) length += part.length;
  expect(length).toBe(1 + 12 * CHUNK);
  await slow.return();
});

test("Logs: write() holds its caller back while the database does not take it, in bounded memory", async () => {
  await using database = await freshDatabase();
  let open_ = () => {};
  const gate = new Promise<void>((resolve) => {
    open_ = resolve;
  });
  const sql = {
    ...database.sql,
    query: async <Row>(text: string, params?: readonly unknown[]) => {
      await gate;
      return database.sql.query<Row>(text, params);
    },
    tx: database.sql.tx.bind(database.sql),
  };
  await using logs = new Logs({ sql, bus: database.bus, clock: systemClock });
  const [row] = await database.sql.query<{ id: number }>("insert into log default values returning id");
  const writer = logs.writer(emptyLog(logId(row?.id ?? 0), 0));
  let taken = 0;
  const source = (async () => {
    for (let i = 0; i < 20; i++) {
      await writer.write(Buffer.alloc(CHUNK, i));
      taken++;
    }
  })();
  // What waits for nothing but the event loop has had its turns by then.
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(taken).toBeLessThanOrEqual(HIGH_WATER / CHUNK);
  open_();
  await source;
  await writer.close();
  expect((await logs.state(logId(row?.id ?? 0))).length).toBe(20 * CHUNK);
});

test("Logs: a writer whose log was ended by somebody else is told, and adds nothing", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  const id = await logs.create();
  const writer = logs.writer(emptyLog(id, 0));
  await database.sql.query("update log set ended = true where id = $1", [id]);
  await writer.write(Buffer.alloc(CHUNK));
  await expect(writer.close()).rejects.toMatchObject({ code: "lease-lost" });
  await expect(writer.write(Buffer.from("x"))).rejects.toBeInstanceOf(FarmError);
  expect(await logs.state(id)).toEqual({ length: 0, lines: 0, ended: true, truncated: false, droppedAt: null });
});

test("Logs: state() of a log that never was", async () => {
  await using database = await freshDatabase();
  await using logs = open(database);
  await expect(logs.state(logId(4711))).rejects.toMatchObject({ code: "not-found" });
});
