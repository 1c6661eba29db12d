/**
 * Machines that fail or go missing, and who hears of it, through the real coordinator, a mail server and a receiver of webhooks: one that
 * fails the farm three times in a row is set aside, its owner told, and used again once a probe has found it well; one that is missing is
 * reported once, also after the coordinator was started again, and reported back when it returns. A message whose coordinator is killed
 * before it could note that it was sent comes once more under the same id; the receivers here tell such repeats by it, as real ones may.
 * What takes minutes is a jump of the coordinator's clock.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { SMTPServer } from "smtp-server";
import { expect, onTestFinished, test } from "vitest";
import { connectionOf } from "../src/store/embedded-server.ts";
import { systemClock } from "../src/store/system-clock.ts";
import { certificate } from "../src/web/certificate.ts";
import { builderKey } from "../src/wire/builder-key/builder-key.ts";
import { Machine } from "./testing/machine.ts";
import { Process, root, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

const TYPE = "host-linux-amd64-shelf";
const EMPTY_TYPE = "host-linux-amd64-empty";

/** Titles of what came to a mail server of its own, which demands TLS; a repeat is known by its Message-ID. */
async function mailServer(folder: string): Promise<{ port: number; caFile: string; titles: string[] }> {
  await mkdir(folder);
  const { cert, key, caFile } = await certificate({
    folder,
    names: [],
    certFile: "",
    keyFile: "",
    now: systemClock.now(),
  });
  const titles: string[] = [];
  const ids = new Set<string>();
  const server = new SMTPServer({
    cert,
    key,
    authOptional: true,
    onData(stream, { envelope, secure }, done) {
      let text = "";
      stream.on("data", (chunk: Buffer) => {
        text += chunk;
      });
      stream.on("end", () => {
        const to = envelope.rcptTo.map(({ address }) => address).join(", ");
        const id = /^Message-ID: (.*)\r$/m.exec(text)?.[1] ?? "";
        if (!ids.has(id)) titles.push(`${/^Subject: (.*)\r$/m.exec(text)?.[1]} (to ${to}${secure ? ", by TLS" : ""})`);
        ids.add(id);
        done();
      });
    },
  });
  server.on("error", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => server.close(resolve)));
  return { port: (server.server.address() as AddressInfo).port, caFile, titles };
}

/** Titles of what came to a webhook; a repeat is known by its Barnraiser-Delivery. */
async function webhook(): Promise<{ url: string; titles: string[] }> {
  const titles: string[] = [];
  const ids = new Set<string>();
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const id = String(request.headers["barnraiser-delivery"]);
    if (!ids.has(id)) titles.push(JSON.parse(text).title);
    ids.add(id);
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, titles };
}

test("a machine that fails is set aside, probed and used again, one that is missing is reported once; its owner hears by mail and webhook", {
  timeout: 240_000,
}, async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const data = join(folder, "farm");
  const mail = await mailServer(join(folder, "mail"));
  const hook = await webhook();
  await using repository = await Repository.make();
  await repository.commit("First", { "work.sh": "#!/bin/sh\nuntil [ -e $FOLDER/well ]; do sleep 0.1; done\n" });
  const config = join(folder, "farm.config.mjs");
  const owners = [{ name: "Ann", contact: "ann@example.org", notify: ["ann@example.org", hook.url] }];
  const configure = (expectedMore: number) => {
    const farm = {
      repos: [{ name: "app", url: repository.path, poll: "1s" }],
      hosts: [
        { hostType: TYPE, trust: "team", expect: 1, missingAfter: "1m", owners },
        { hostType: EMPTY_TYPE, trust: "team", expect: expectedMore },
      ],
      builders: [{ name: "linux-amd64", host: TYPE, env: { FOLDER: folder }, steps: ["./work.sh"] }],
      notify: { mail: { host: "localhost", port: mail.port, from: "farm@example.org", caFile: mail.caFile } },
    };
    return writeFile(config, `export default ${JSON.stringify(farm)};\n`);
  };
  await configure(0);
  await writeFile(join(folder, "master.key"), "a master key for tests\n");
  await writeFile(join(folder, "machine.key"), builderKey("a master key for tests", TYPE), { mode: 0o600 });
  const ahead = (minutes: number) => writeFile(join(folder, "ahead"), String(minutes));
  await ahead(0);
  let addresses = { https: "https://127.0.0.1:0", http: "http://127.0.0.1:0" };
  const start = async () => {
    const flags = ["-config", config, "-data", data, "-masterkey", join(folder, "master.key"), "-farm-name", "Shelf"];
    const ports = ["-listen", new URL(addresses.https).host, "-http", new URL(addresses.http).host];
    const program = Process.program("coordinator.js", [...flags, ...ports], {
      env: { HURRIED_CLOCK: join(folder, "ahead"), NODE_OPTIONS: `--import ${root}e2e/testing/hurried-clock.ts` },
    });
    await program.says(/The farm runs/);
    addresses = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8"));
    return program;
  };
  let coordinator = await start();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => coordinator[Symbol.asyncDispose]());
  const db = new pg.Client(await connectionOf(data));
  await db.connect();
  stack.defer(() => db.end());
  const holds = (text: string) =>
    until(
      async () => (await db.query(text)).rowCount === 1,
      60_000,
      () => `${text}\n${coordinator.output}`,
    );
  const heard: string[] = [];
  const bothHear = async (title: string) => {
    heard.push(`[Shelf] ${title}`);
    await until(
      () => mail.titles.length >= heard.length && hook.titles.length >= heard.length,
      60_000,
      () => `${title}, after ${JSON.stringify({ mail: mail.titles, hook: hook.titles })}\n${coordinator.output}`,
    );
  };
  await mkdir(join(folder, "work"));
  const lend = () =>
    new Machine("m1", () =>
      Process.program(
        "agents/buildlet.mjs",
        [
          `-coordinator=${new URL(addresses.https).host}`,
          `-reverse-type=${TYPE}`,
          "-hostname=m1",
          `-ca-file=${join(data, "tls/ca.pem")}`,
          `-workdir=${join(folder, "work")}`,
          "-health-addr=127.0.0.1:0",
          "-halt=false",
        ],
        { env: { GO_BUILD_KEY_PATH: join(folder, "machine.key") } },
      ),
    );
  const first = stack.use(lend());

  // Three times its agent is killed in the middle of the build.
  for (const number of [1, 2, 3]) {
    await holds(
      `select from step s join attempt a on a.id = s.attempt_id where a.number = ${number} and a.state = 'running' and s.number = 1 and s.log_id is not null`,
    );
    first.kill("SIGKILL");
  }
  await holds("select from machine where set_aside_at is not null");
  expect((await db.query("select number, outcome, counts, machine_fault from attempt order by number")).rows).toEqual([
    ...[1, 2, 3].map((number) => ({ number, outcome: "infra_failure", counts: true, machine_fault: true })),
    { number: 4, outcome: null, counts: true, machine_fault: false },
  ]);
  await ahead(2);
  await bothHear("m1 is set aside");

  // The probe finds it well, and it does what waited.
  await writeFile(join(folder, "well"), "");
  await ahead(10);
  await holds("select from machine where set_aside_at is null and well_since is not null");
  await holds("select from build where outcome = 'success'");
  await holds("select from trouble where kind = 'set-aside' and well_at is not null");
  await ahead(15);
  await bothHear("m1 is well again");

  await first[Symbol.asyncDispose]();
  await holds(
    "select from machine m where not exists (select from session s where s.machine_id = m.id and s.closed_at is null)",
  );
  await ahead(20);
  await bothHear("m1 is missing");

  // A coordinator that was killed and started again looks as well, and knows that everybody has been told.
  coordinator.kill("SIGKILL");
  await coordinator.exited;
  await configure(1);
  coordinator = await start();
  await ahead(40);
  await holds(`select from trouble where kind = 'short' and about ->> 'name' = '${EMPTY_TYPE}'`);
  stack.use(lend());
  await holds("select from trouble where kind = 'missing' and well_at is not null");
  await ahead(45);
  await bothHear("m1 is back");

  expect({ mail: mail.titles, hook: hook.titles }).toEqual({
    mail: heard.map((title) => `${title} (to ann@example.org, by TLS)`),
    hook: heard,
  });
});
