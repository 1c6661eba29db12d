import { PassThrough } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readBody, readHead, SocketReader } from "./response.ts";

/** Reads one response from `pieces`; `after` is what the reader has left. */
async function receive(pieces: readonly Buffer[], end = false) {
  const socket = new PassThrough();
  const reader = new SocketReader(socket);
  const write = (async () => {
    for (const piece of pieces) {
      socket.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (end) socket.end();
  })();
  try {
    const head = await readHead(reader);
    const body = readBody(reader, head);
    const chunks: Buffer[] = [];
    for (let chunk = await body.next(); chunk; chunk = await body.next()) chunks.push(Buffer.from(chunk));
    await write;
    socket.end();
    const after: Buffer[] = [];
    for (let chunk = await reader.read(); chunk; chunk = await reader.read()) after.push(chunk);
    return {
      status: head.status,
      text: Buffer.concat(chunks).toString(),
      trailers: body.trailers,
      reusable: body.reusable,
      after: Buffer.concat(after).toString(),
    };
  } finally {
    await write;
    socket.destroy();
  }
}

function cut(text: string, places: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const sorted = [...places.map((place) => place % (bytes.length + 1)), 0, bytes.length].sort((a, b) => a - b);
  return sorted.slice(1).map((end, at) => bytes.subarray(sorted[at], end));
}

const EXEC =
  "HTTP/1.1 200 OK\r\nTrailer: Process-State\r\nTransfer-Encoding: chunked\r\n\r\n" +
  "4\r\nout\n\r\n1f;ext=1\r\nline with \r\n0\r\n and more of it\n\r\n3\r\nerr\r\n0\r\nProcess-State: exit status 7\r\n\r\n";

test("readBody() reads a chunked body with trailers however it is cut, and leaves what follows", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(1000), { maxLength: 12 }), async (places) => {
      expect(await receive(cut(`${EXEC}next`, places))).toEqual({
        status: 200,
        text: "out\nline with \r\n0\r\n and more of it\nerr",
        trailers: [["Process-State", "exit status 7"]],
        reusable: true,
        after: "next",
      });
    }),
    { numRuns: 150 },
  );
});

test("readBody() reads bodies by length and by the end of the connection, after passing over 100 Continue", async () => {
  const ok = { status: 200, trailers: [], after: "" };
  const head = (...fields: string[]) => `HTTP/1.1 200 OK\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;
  expect([
    await receive(cut(`${head("Content-Length: 5")}hello`, [20, 40])),
    await receive(cut(`HTTP/1.1 100 Continue\r\n\r\n${head("Content-Length: 0")}`, [10])),
    await receive(cut(`${head("Content-Length: 2", "Connection: close")}hi`, [])),
    await receive(cut(`${head()}until the end`, [30]), true),
  ]).toEqual([
    { ...ok, text: "hello", reusable: true },
    { ...ok, text: "", reusable: true },
    { ...ok, text: "hi", reusable: false },
    { ...ok, text: "until the end", reusable: false },
  ]);
});

test("a body that ends too soon is cut; one that is not HTTP is malformed", async () => {
  const kind = (text: string) =>
    receive([Buffer.from(text)], true).then(
      () => "whole",
      (error: { kind: string }) => error.kind,
    );
  const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  expect([
    await kind(EXEC.slice(0, -2)),
    await kind(EXEC.slice(0, 120)),
    await kind("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"),
    await kind(`${chunked}xyz\r\n`),
    await kind(`${chunked}\r\n`),
    await kind(`${chunked}2\r\nabc\r\n`),
    await kind(`${chunked}1ffffffffffff\r\n`),
    await kind(`${chunked}0\r\nno colon\r\n\r\n`),
    await kind("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    await kind("SSH-2.0-OpenSSH\r\n\r\n"),
  ]).toEqual([
    "cut",
    "cut",
    "cut",
    "malformed",
    "malformed",
    "malformed",
    "malformed",
    "malformed",
    "malformed",
    "malformed",
  ]);
});
