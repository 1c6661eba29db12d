import { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { ControlLineReader, encodeControlLine, MAX_CONTROL_LINE } from "../../wire/revdial/control-line.ts";
import { DIAL_LIMIT, Dialer, KEEP_ALIVE_EVERY, PICK_UP_PAUSE, PICK_UPS, WRITE_LIMIT } from "./dialer.ts";

const ID = "79f91571b1c3c1b03429bbb5d727dd68";

/** The coordinator's end of a control connection: `sent` is what the machine would get. */
class FakeSocket extends Duplex {
  readonly sent: Buffer[] = [];
  /** Writes are not delivered while this is set. */
  stalled = false;

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sent.push(chunk);
    if (!this.stalled) done();
  }

  lines(): string[] {
    const reader = new ControlLineReader();
    return this.sent.flatMap((chunk) => reader.push(chunk)).map((line) => line.connPath ?? line.command);
  }
}

function start(pongs: boolean) {
  const clock = new FakeClock();
  const socket = new FakeSocket();
  const closed: string[] = [];
  const dialer = new Dialer({
    coordinator: "P0000000aa",
    id: ID,
    name: "m",
    socket,
    pongs,
    clock,
    onPong: () => {},
    onClosed: (why) => closed.push(why),
  });
  dialer.start(new Uint8Array(0));
  const pass = async (span: number) => {
    for (let second = 0; second < span; second++) {
      await clock.advance(seconds(1));
      dialer.tick();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const hear = async (text: string) => {
    socket.push(text);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { clock, socket, dialer, closed, pass, hear };
}

test("[coordinator 15] keep-alive at once, then when the machine has heard nothing for a while, at most 30 s", async () => {
  const { socket, dialer, pass } = start(false);
  await pass(29);
  expect(socket.lines()).toEqual(["keep-alive", "keep-alive"]);
  await pass(20);
  dialer.dial().catch(() => {});
  await pass(27);
  expect(socket.lines().filter((line) => line === "keep-alive")).toHaveLength(2);
  await pass(2);
  expect(socket.lines().filter((line) => line === "keep-alive")).toHaveLength(3);
  expect(KEEP_ALIVE_EVERY).toBeLessThan(seconds(30));
});

test("[coordinator 17] no line is longer than 4096 bytes", async () => {
  const { socket, dialer } = start(false);
  for (let i = 0; i < 1000; i++) dialer.dial().catch(() => {});
  expect(Math.max(...socket.sent.map((chunk) => chunk.length))).toBeLessThan(MAX_CONTROL_LINE);
  dialer.close("done");
});

test("a machine that answers stays; one that does not is gone after 2 missed keep-alives, a busy one after 3", async () => {
  for (const busy of [false, true]) {
    const { dialer, closed, pass, hear, socket } = start(true);
    dialer.busy = busy;
    for (let round = 0; round < 4; round++) {
      await hear('{"command":"pong"}\n');
      await pass(14);
    }
    expect([closed, socket.lines().length]).toEqual([[], 5]);
    await hear('{"command":"pong"}\n');
    await pass(busy ? 60 : 33);
    expect(closed).toEqual([]);
    await pass(2);
    expect(closed).toEqual([`stopped answering: no answer to ${busy ? 3 : 2} questions in a row whether it is there`]);
  }
});

test("a write that is not taken closes after its limit; a dial that nobody answers fails after its own", async () => {
  const { socket, dialer, closed, pass } = start(false);
  const dial = dialer.dial().catch((error: Error) => error.message);
  await pass(DIAL_LIMIT / 1000);
  expect([await dial, closed]).toEqual(['Machine "m" did not open a connection within 20 s', []]);
  socket.stalled = true;
  dialer.dial().catch(() => {});
  await pass(WRITE_LIMIT / 1000);
  expect([closed, socket.destroyed]).toEqual([["took nothing of what was sent to it for 10 s"], true]);
});

test("[coordinator 21] a failure with a path fails that dial; one without fails a dial only when it can be about no other", async () => {
  const { dialer, hear, socket } = start(false);
  const settled: string[] = [];
  const dial = (name: string) =>
    void dialer.dial().then(
      () => settled.push(`${name} ok`),
      (error: Error) => settled.push(`${name} ${error.message.replace(/.*: /, "")}`),
    );
  dial("a");
  dial("b");
  const [, a = ""] = socket.lines();
  await hear('{"command":"pickup-failed","err":"whose?"}\n');
  expect(settled).toEqual([]);
  await hear(Buffer.from(encodeControlLine({ command: "pickup-failed", connPath: a, err: "mine" })).toString());
  expect(settled).toEqual(["a mine"]);
  await hear('{"command":"pickup-failed","err":"must be b"}\n');
  expect(settled).toEqual(["a mine", "b must be b"]);
  await hear('{"command":"pickup-failed","err":"nobody waits"}\n');
  dial("c");
  await new Promise((resolve) => setImmediate(resolve));
  expect(settled).toHaveLength(2);
  // A pick-up that we refused makes the machine complain, which is about no dial that waits.
  expect(dialer.deliver(1, new FakeSocket())).toBe(false);
  await hear('{"command":"pickup-failed","err":"400 Nobody waits"}\n');
  expect(settled).toHaveLength(2);
  const given = new FakeSocket();
  expect(dialer.deliver(3, given)).toBe(true);
  await new Promise((resolve) => setImmediate(resolve));
  expect([settled[2], given.sent.map(String)]).toEqual(["c ok", ["HTTP/1.1 101 Switching Protocols\r\n\r\n"]]);
});

test("of two dials of which one failed, nobody knows which, the other one is picked up: then it is known, and asked again at once", async () => {
  const { clock, dialer, hear, socket, closed } = start(false);
  const [first, second] = [dialer.connection(), dialer.connection()];
  await hear('{"command":"pickup-failed","err":"503 stopping"}\n');
  const dials = () => socket.lines().length - 1;
  expect(dials()).toBe(2);
  const given = [new FakeSocket(), new FakeSocket()] as const;
  expect(dialer.deliver(2, given[0])).toBe(true);
  expect(await second).toBe(given[0]);
  await clock.advance(PICK_UP_PAUSE);
  expect(dials()).toBe(3);
  expect(dialer.deliver(3, given[1])).toBe(true);
  expect([await first, closed]).toEqual([given[1], []]);
});

test("a dial that is not picked up while one of several has failed is asked for again: that one was it", async () => {
  const { clock, dialer, hear, pass, socket } = start(false);
  const dials = [dialer.connection(), dialer.connection()].map((dial) => dial.catch((error: Error) => error.message));
  await hear('{"command":"pickup-failed","err":"503 stopping"}\n');
  await pass(DIAL_LIMIT / 1000);
  await clock.advance(PICK_UP_PAUSE);
  expect(socket.lines().filter((line) => line !== "keep-alive")).toHaveLength(3);
  expect(await dials[1]).toBe('Machine "m" did not open a connection within 20 s');
  dialer.close("done");
  expect(await dials[0]).toBe('Machine "m" is gone: done');
});

test("a machine that could not open a connection is asked again after a pause, a few times, and never once nobody wants it", async () => {
  const { clock, dialer, hear, socket } = start(false);
  const failed = async () => {
    await hear('{"command":"pickup-failed","err":"503 stopping"}\n'); // as the original says it: which dial, it leaves out
    await clock.advance(PICK_UP_PAUSE);
  };
  const dials = () => socket.lines().length - 1;
  const had = dialer.connection();
  for (let dial = 1; dial < PICK_UPS; dial++) await failed();
  const given = new FakeSocket();
  expect(dialer.deliver(PICK_UPS, given)).toBe(true);
  expect([await had, dials()]).toEqual([given, PICK_UPS]);

  const never = dialer.connection().catch((error: Error) => error.message);
  for (let dial = 1; dial <= PICK_UPS; dial++) await failed();
  expect([await never, dials()]).toEqual(['Machine "m" could not open a connection: 503 stopping', 2 * PICK_UPS]);

  const stop = new AbortController();
  const dropped = dialer.connection(stop.signal).catch((error: Error) => error.message);
  await hear('{"command":"pickup-failed","err":"503 stopping"}\n');
  stop.abort(new Error("never mind"));
  expect([await dropped, dials()]).toEqual(["never mind", 2 * PICK_UPS + 1]);
});

test("closing settles every dial with the reason, once, and so does a dial afterwards or with an aborted signal", async () => {
  const { dialer, closed, socket } = start(false);
  const stop = new AbortController();
  const dials = [dialer.dial(), dialer.dial(stop.signal)];
  stop.abort(new Error("never mind"));
  socket.push(null); // hangs up
  const results = await Promise.allSettled([...dials, dialer.dial(stop.signal)]);
  dialer.close("again");
  expect(results.map((result) => (result.status === "rejected" ? String(result.reason.message) : "ok"))).toEqual([
    'Machine "m" is gone: it closed the connection',
    "never mind",
    "never mind",
  ]);
  await expect(dialer.dial()).rejects.toMatchObject({ code: "machine-gone" });
  expect(closed).toEqual(["it closed the connection"]);
});
