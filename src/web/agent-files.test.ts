import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { readAgents, serveAgents } from "./agent-files.ts";

test("programs are served with size, date and digest, and everything else is left to the pages", async () => {
  const dist = await mkdtemp(join(tmpdir(), "barnraiser-agents-"));
  onTestFinished(() => rm(dist, { recursive: true, force: true }));
  const folder = join(dist, "agents");
  await mkdir(folder);
  await writeFile(join(dist, "gomote.mjs"), "console.log('typed')\n");
  const program = "console.log('at work')\n";
  await writeFile(join(folder, "buildlet.mjs"), program);
  await utimes(join(folder, "buildlet.mjs"), 1_700_000_000.75, 1_700_000_000.75);
  const pages = (_request: unknown, response: unknown) => void (response as http.ServerResponse).end("page");
  const server = http.createServer(serveAgents(await readAgents(folder), pages)).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const ask = async (path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, init);

  const sha256 = createHash("sha256").update(program).digest();
  const got = await ask("/agents/buildlet.mjs");
  expect({
    body: await got.text(),
    length: got.headers.get("content-length"),
    modified: got.headers.get("last-modified"),
    digest: got.headers.get("digest"),
    etag: got.headers.get("etag"),
  }).toEqual({
    body: program,
    length: String(program.length),
    modified: "Tue, 14 Nov 2023 22:13:20 GMT",
    digest: `sha-256=${sha256.toString("base64")}`,
    etag: `"${sha256.toString("hex")}"`,
  });
  const head = await ask("/agents/buildlet.mjs", { method: "HEAD" });
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([
    200,
    String(program.length),
    "",
  ]);
  const known = { headers: { "if-none-match": `"${sha256.toString("hex")}"` } };
  expect((await ask("/agents/buildlet.mjs", known)).status).toBe(304);
  expect((await ask("/agents/buildlet.mjs", { method: "POST" })).status).toBe(405);
  for (const path of ["/agents/none", "/agents/", "/agents/..%2fcoordinator.js", "/agents/__proto__"]) {
    const missing = await ask(path);
    expect([missing.status, await missing.text()]).toEqual([
      404,
      "no such program; there are: buildlet.mjs, gomote.mjs\n",
    ]);
  }
  expect(await (await ask("/gomote.mjs")).text()).toBe("console.log('typed')\n");
  expect(await (await ask("/")).text()).toBe("page");
});
