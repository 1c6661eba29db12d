import { Duplex, duplexPair, Writable } from "node:stream";
import type { ServerChannel } from "ssh2";
import { expect, test } from "vitest";
import { until } from "../../machines/testing/farm-of-machines.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { forward, hold } from "./channel.ts";

/** A client's socket that takes nothing until it is told to. */
class StuckSocket extends Writable {
  bytes = 0;
  #taken: (() => void) | undefined;
  #open = false;

  override _write(chunk: Buffer, _: BufferEncoding, taken: () => void): void {
    this.bytes += chunk.length;
    if (this.#open) taken();
    else this.#taken = taken;
  }

  take(): void {
    this.#open = true;
    this.#taken?.();
  }
}

/** As the library's, with a window without end: what is written is in the socket at once. */
function channelTo(socket: Writable): ServerChannel {
  const channel = new Duplex({
    read() {},
    write(chunk, _, done) {
      socket.write(chunk);
      done();
    },
  });
  return channel as unknown as ServerChannel;
}

test("a client that gives a window of gigabytes and reads nothing holds the machine back, until it reads", async () => {
  const [ours, theirs] = duplexPair();
  const machine = new ShellLine(theirs);
  machine.listen({ frame: () => {}, closed: () => {} });
  const socket = new StuckSocket();
  const opening = { what: "dial", host: "127.0.0.1", port: 1 } as const;
  const over = forward(
    () => channelTo(socket),
    () => {},
    socket,
    new ShellLine(ours),
    opening,
  );
  machine.send({ kind: "started", started: { terminal: null, note: "" } });
  const pieces = 256;
  const piece = Buffer.alloc(16 * 1024);
  let sent = 0;
  const sending = (async () => {
    for (; sent < pieces; sent++) {
      if (!machine.send({ kind: "data", bytes: piece })) await machine.drained();
    }
  })();
  for (let n = 0; n < 100; n++) await new Promise((done) => setImmediate(done));
  expect(sent * piece.length + socket.writableLength).toBeLessThan(512 * 1024);
  socket.take();
  await sending;
  await until(() => socket.bytes === pieces * piece.length, "all of it");
  machine.end();
  await over;
});

test("what is read goes on only once neither output nor errors nor the socket are full", () => {
  const full = [false, false].map((writableNeedDrain) => ({
    writableNeedDrain,
    drain: () => {},
    once(_: "drain", go: () => void) {
      this.drain = go;
    },
  }));
  const [output, errors] = full as [(typeof full)[0], (typeof full)[0]];
  const heard: string[] = [];
  const held = hold({ pause: () => heard.push("pause"), resume: () => heard.push("resume") }, full);
  held();
  expect(heard).toEqual([]);
  output.writableNeedDrain = true;
  errors.writableNeedDrain = true;
  held();
  held();
  output.writableNeedDrain = false;
  output.drain();
  expect(heard).not.toContain("resume");
  errors.writableNeedDrain = false;
  errors.drain();
  expect(heard.at(-1)).toBe("resume");
});
