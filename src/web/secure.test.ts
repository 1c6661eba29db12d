/** The application behind the real front door: HTTP/2 and HTTP/1.1 over TLS, with what depends on them (cookie, origin, live events). */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import http2 from "node:http2";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { epochMs } from "../farm/ids.ts";
import { systemClock } from "../store/system-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { certificate } from "./certificate.ts";
import { FrontDoor } from "./front-door.ts";
import { TOKEN, testWeb } from "./testing/web.ts";

test("pages, login and live events over HTTP/2 and TLS; the cookie is for TLS only", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-web-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const { cert, key, caFile } = await certificate({ folder, names: [], now: epochMs(Date.now()) });
  const web = stack.use(await testWeb({ empty: true }));
  const refuse = (socket: { end(): unknown }): void => void socket.end();
  const local = { host: "127.0.0.1", port: 0 };
  const door = stack.use(new FrontDoor({ listen: local, http: local, cert, key, clock: systemClock, log: quiet }));
  await door.open({ machines: { reverse: refuse, revdial: refuse }, pages: web.app.listener });
  const ca = await readFile(caFile, "utf8");
  const origin = `https://localhost:${door.ports.tls}`;
  const session = http2.connect(origin, { ca });
  stack.defer(() => session.destroy());
  const ask = (
    headers: http2.OutgoingHttpHeaders,
    body?: string,
  ): Promise<[http2.IncomingHttpHeaders, http2.ClientHttp2Stream]> =>
    new Promise((resolve, reject) => {
      const stream = session.request(headers);
      stream.once("response", (got) => resolve([got, stream]));
      stream.once("error", reject);
      stream.end(body);
    });
  const [home, page] = await ask({ ":path": "/", "accept-encoding": "identity" });
  expect([home[":status"], (await text(page)).includes("The test farm")]).toEqual([200, true]);

  const form = { ":method": "POST", "content-type": "application/x-www-form-urlencoded" };
  const [login] = await ask({ ...form, ":path": "/login", origin }, `token=${TOKEN}`);
  expect(login[":status"]).toBe(303);
  expect(login["set-cookie"]?.[0]).toMatch(/; HttpOnly; SameSite=Strict; Secure$/);
  const cookie = login["set-cookie"]?.[0]?.split(";")[0] ?? "";
  const [canceled] = await ask({ ...form, ":path": "/b/7/cancel", origin, cookie });
  const [foreign] = await ask({
    ...form,
    ":path": "/b/8/cancel",
    origin: `https://localhost:${door.ports.tls + 1}`,
    cookie,
  });
  expect([canceled[":status"], foreign[":status"], web.done]).toEqual([303, 403, ["cancel 7 operator"]]);

  const [live, events] = await ask({ ":path": "/events?t=build:" });
  expect(live["content-type"]).toBe("text/event-stream; charset=utf-8");
  const heard: string[] = [];
  const change = new Promise<void>((resolve) => {
    events.on("data", (chunk: Buffer) => {
      heard.push(chunk.toString());
      if (heard.join("").includes("change")) resolve();
    });
  });
  web.database.bus.publish("build:5");
  await change;
  expect(heard.join("")).toContain('data: ["build:"]');
  events.close();

  const old = await new Promise<string>((resolve, reject) => {
    https.get(`${origin}/healthz`, { ca }, (response) => text(response).then(resolve, reject)).once("error", reject);
  });
  expect(old).toBe("ok\n");
});
