import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { BODY_LIMIT, limitBodies } from "./body-limit.ts";

const open = (server: Server) => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));

test("a request whose body does not end is hung up on; one that was whole is answered however long that takes, and so is a file", async () => {
  const clock = new FakeClock();
  const answers: (() => void)[] = [];
  const server = createServer(
    limitBodies(clock, (incoming, response) => {
      incoming.resume();
      answers.push(() => (response as { end(text: string): unknown }).end("answered"));
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const post = (end: boolean, method = "POST", path = "/") => {
    const outgoing = request({ port, host: "127.0.0.1", method, path, agent: false });
    const answer = new Promise<string>((resolve, reject) => {
      outgoing.on("error", reject).on("response", (response) => text(response).then(resolve, reject));
    });
    if (end) outgoing.end("whole");
    else outgoing.write("begun");
    return answer;
  };
  const stuck = post(false).catch((error: Error) => error.message);
  await expect.poll(() => clock.sleeping).toBe(1);
  const whole = post(true);
  await expect.poll(() => [answers.length, clock.sleeping]).toEqual([2, 1]);
  await clock.advance(BODY_LIMIT);
  expect(await stuck).toBe("socket hang up");
  for (const answer of answers) answer();
  expect(await whole).toBe("answered");
  answers.length = 0;

  // A file takes as long as it takes; what goes on after an answer does not.
  const file = post(false, "PUT", "/gomotes/alice-linux-0/files?path=d%2Ff");
  file.catch(() => {});
  await expect.poll(() => [answers.length, clock.sleeping]).toEqual([1, 0]);
  await clock.advance(ms(BODY_LIMIT + seconds(60)));
  for (const answer of answers) answer();
  expect(await file).toBe("answered");
  await expect.poll(() => clock.sleeping).toBe(1);
  await clock.advance(BODY_LIMIT);
  await expect.poll(() => open(server)).toBe(0);
  await new Promise<void>((resolve) => server.close(() => resolve()));
});
