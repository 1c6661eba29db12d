import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { execAnswer, okAnswer, respond } from "./request-responder.ts";

test("respond() answers requests in order, whatever their bodies are and however they are cut", async () => {
  const asked: string[] = [];
  const server = createServer((socket) => {
    respond(socket, new Uint8Array(0), ({ target }) => {
      asked.push(target);
      return target === "/exec" ? execAnswer("ok\n") : okAnswer("");
    });
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1").setNoDelay(true);
  onTestFinished(() => void socket.destroy());
  let got = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    got += text;
  });

  const requests =
    "GET /status HTTP/1.1\r\nHost: m\r\n\r\n" +
    "PUT /writetgz?dir=src HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
    "5\r\n\r\n0\r\n\r\n19;x=y\r\nGET /a-request HTTP/1.1\r\n\r\n0\r\nTrailer: t\r\n\r\n" +
    "POST /removeall HTTP/1.1\r\nContent-Length: 6\r\n\r\npath=." +
    "POST /exec HTTP/1.1\r\nContent-Length: 8\r\n\r\ncmd=true";
  const bytes = Buffer.from(requests);
  for (let at = 0; at < bytes.length; at += 7) {
    socket.write(bytes.subarray(at, at + 7));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const expected =
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(3) +
    "HTTP/1.1 200 OK\r\nTrailer: Process-State\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\nProcess-State: ok\r\n\r\n";
  await expect.poll(() => got).toBe(expected);
  expect(asked).toEqual(["/status", "/writetgz?dir=src", "/removeall", "/exec"]);
});
