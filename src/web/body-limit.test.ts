import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { BODY_LIMIT, limitBodies } from "./body-limit.ts";

test("a request whose body does not end is hung up on; one that was whole is answered however long that takes", async () => {
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
  const post = (end: boolean, method = "POST") => {
    const outgoing = request({ port, host: "127.0.0.1", method, agent: false });
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
  await new Promise<void>((resolve) => server.close(() => resolve()));
});
