import { Duplex, Readable } from "node:stream";
import { expect, test } from "vitest";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { Exchanges } from "./exchange.ts";

/** A connection to a machine that says OK once an upload has ended; `pieces` is what left together. */
function machineSocket() {
  const pieces: string[] = [];
  let arrived = () => {};
  const sent = (piece: string, done: () => void): void => {
    pieces.push(piece);
    if (piece.endsWith("0\r\n\r\n")) socket.push("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK");
    arrived();
    done();
  };
  const socket = new Duplex({
    read() {},
    write: (chunk: Buffer, _, done) => sent(chunk.toString(), done),
    writev: (chunks, done) => sent(Buffer.concat(chunks.map(({ chunk }) => chunk)).toString(), done),
  });
  const until = async (count: number): Promise<void> => {
    while (pieces.length < count) {
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
    }
  };
  return { socket, pieces, until };
}

function upload(socket: Duplex, body: Readable) {
  const exchanges = new Exchanges({
    name: "m1",
    clock: new FakeClock(),
    dial: async () => socket,
    gone: new AbortController().signal,
    carrierEnded: async () => undefined,
  });
  return exchanges.send({ method: "PUT", target: "/writetgz", doing: "unpack", body });
}

const HEAD = "PUT /writetgz HTTP/1.1\r\nHost: m1\r\nTransfer-Encoding: chunked\r\n\r\n";

test("an upload that is there at once leaves in one piece, head and end with it", async () => {
  const { socket, pieces } = machineSocket();
  const { head } = await upload(socket, Readable.from([Buffer.from("a small "), Buffer.from("archive")]));
  expect([head.status, pieces]).toEqual([200, [`${HEAD}8\r\na small \r\n7\r\narchive\r\n0\r\n\r\n`]]);
});

test("of an upload that comes slowly no piece waits for the next, nor for the end", async () => {
  const { socket, pieces, until } = machineSocket();
  const body = new Readable({ read() {} });
  const answered = upload(socket, body);
  body.push("first");
  await until(1);
  body.push("second");
  await until(2);
  body.push(null);
  await answered;
  expect(pieces).toEqual([`${HEAD}5\r\nfirst\r\n`, "6\r\nsecond\r\n", "0\r\n\r\n"]);
});
