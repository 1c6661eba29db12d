import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../store/system-clock.ts";
import { testNotice } from "./test-notice.ts";

test("-test-notice tells each operator and says what became of it", async () => {
  const bodies: unknown[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    bodies.push(JSON.parse(body));
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-notice-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const hook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret`;
  await writeFile(join(folder, "hook"), `${hook}\n`);
  const file = join(folder, "farm.config.mjs");
  const hosts = [{ hostType: "host-linux-amd64-a" }];
  const builders = [{ name: "linux-amd64", host: "host-linux-amd64-a", steps: ["true"] }];
  const config = { repos: [{ name: "app", url: "." }], hosts, builders };
  const run = async (notify: object): Promise<[number, string]> => {
    await writeFile(file, `export default ${JSON.stringify({ ...config, notify })};\n`);
    let said = "";
    const out = { write: (text: string) => (said += text) };
    return [await testNotice(file, "The farm", systemClock, out), said];
  };
  expect(await run({ operators: [{ webhook: { file: "hook" } }] })).toEqual([0, "told file:hook\n"]);
  expect(bodies).toMatchObject([{ event: "test", title: "[The farm] test message" }]);
  expect(await run({ operators: [hook, "ops@example.org"] })).toEqual([
    2,
    `told ${hook.replace("/secret", "/…")}\ncould not tell ops@example.org: Cannot send mail: the configuration has no notify.mail, which names the mail server\n`,
  ]);
  expect(await run({})).toEqual([
    2,
    `Cannot tell anybody: ${file} has no notify.operators. Name somebody there, and try again.\n`,
  ]);
});
