import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket as SocketOfServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";
import { expect, onTestFinished, test } from "vitest";
import type { MailConfig, Recipient } from "../config/effective.ts";
import type { Secret } from "../config/input.ts";
import { epochMs } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { systemClock } from "../store/system-clock.ts";
import { certificate } from "../web/certificate.ts";
import { send } from "./channels.ts";
import { type Message, testMessage } from "./message.ts";

const place = { farm: "Example\r\nBcc: a@example.org", url: "https://farm.example.org" };
const message: Message = testMessage(place, epochMs(Date.UTC(2026, 10, 25)));
const secrets: Readonly<Record<string, string>> = { HOOK: "hush", SMTP: "wonder" };

function deps(clock = systemClock as typeof systemClock | FakeClock) {
  return {
    clock,
    secret: async (secret: Secret) => ("env" in secret ? (secrets[secret.env] ?? "") : secret.file),
    file: (path: string) => path,
  };
}

const never = new AbortController().signal;

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly url: string;
}

/** A receiver of webhooks that answers `status`. */
async function receiver(status = 200, location?: string): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    received.push({ headers: request.headers, body: Buffer.concat(chunks).toString(), url: request.url ?? "" });
    response.writeHead(status, location === undefined ? {} : { location }).end("thanks");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, received };
}

function webhook(url: string | Secret, secret: Secret | null = null): Recipient {
  return { kind: "webhook", url, secret };
}

test("a webhook gets JSON with a signature that its secret verifies", async () => {
  const { url, received } = await receiver();
  await send(deps(), webhook(url, { env: "HOOK" }), null, place, message, 12, never);
  const [got] = received;
  if (!got) throw new Error("nothing came");
  expect(JSON.parse(got.body)).toMatchObject({
    id: 12,
    event: "test",
    title: "[Example Bcc: a@example.org] test message",
    items: [{ kind: "test", link: "https://farm.example.org" }],
  });
  expect(got.headers).toMatchObject({ "content-type": "application/json", "barnraiser-delivery": "12" });
  const [, stamp, sum] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(got.headers["barnraiser-signature"])) ?? [];
  expect(createHmac("sha256", "hush").update(`${stamp}.${got.body}`).digest("hex")).toBe(sum);
});

test("an address of a webhook may be a secret; without a secret to sign with there is no signature", async () => {
  const { url, received } = await receiver();
  await send(deps(), webhook({ file: url }), null, place, message, 1, never);
  expect(received.map(({ headers }) => headers["barnraiser-signature"])).toEqual([undefined]);
});

test("a webhook that redirects, refuses or is not there is a failure that says so", async () => {
  const elsewhere = await receiver();
  const { url } = await receiver(302, elsewhere.url);
  const failing = async (address: string): Promise<string> =>
    send(deps(), webhook(address), null, place, message, 1, never).then(
      () => "sent",
      (error: Error) => error.message,
    );
  expect(await failing(url)).toBe("The webhook answered 302: redirects are not followed");
  expect(elsewhere.received).toEqual([]);
  expect(await failing((await receiver(500)).url)).toBe("The webhook answered 500");
  expect(await failing("http://127.0.0.1:1/")).toMatch(/^The webhook does not answer: .*ECONNREFUSED|bad port/);
});

interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  readonly user: string;
  readonly secure: boolean;
  readonly raw: string;
}

/** A mail server that takes the user `farm` with the password `wonder`, with a certificate of its own. */
async function mailServer(options: SMTPServerOptions = {}): Promise<{ port: number; mails: Mail[]; caFile: string }> {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-mail-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const identity = { folder, names: [], certFile: "", keyFile: "", now: systemClock.now() };
  const { cert, key, caFile } = await certificate(identity);
  const mails: Mail[] = [];
  const server = new SMTPServer({
    cert,
    key,
    authOptional: true,
    onAuth: ({ username, password }, _session, done) =>
      password === "wonder" ? done(null, { user: username }) : done(new Error("wrong password")),
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          user: String(session.user ?? ""),
          secure: session.secure,
          raw: Buffer.concat(chunks).toString(),
        });
        done();
      });
    },
    ...options,
  });
  server.on("error", () => {}); // a client that does not like our certificate
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise<void>((resolve) => server.close(resolve)));
  return { port: (server.server.address() as AddressInfo).port, mails, caFile };
}

function mailOf(port: number, over: Partial<MailConfig> = {}): MailConfig {
  const base = { host: "localhost", port, security: "starttls", user: null, password: null, caFile: null } as const;
  return { ...base, from: "farm@example.org", ...over };
}

const ann: Recipient = { kind: "mail", address: "ann@example.org" };

test("mail goes over STARTTLS with a login, in one plain part, and no name becomes a header", async () => {
  const { port, mails, caFile } = await mailServer();
  const mail = mailOf(port, { user: "farm", password: { env: "SMTP" }, caFile });
  await send(deps(), ann, mail, place, { ...message, title: "a\r\nBcc: eve@example.org" }, 7, never);
  expect(mails).toMatchObject([{ from: "farm@example.org", to: ["ann@example.org"], user: "farm", secure: true }]);
  const head = mails[0]?.raw.split("\r\n\r\n")[0]?.split("\r\n") ?? [];
  expect(head.filter((line) => /^(Bcc|Cc)/i.test(line))).toEqual([]);
  expect(head).toContain("Subject: a Bcc: eve@example.org");
  expect(head).toContain("Message-ID: <notice-7@example.org>");
  expect(head.find((line) => line.startsWith("Content-Type"))).toBe("Content-Type: text/plain; charset=utf-8");
});

test("mail goes over TLS from the first byte, and without any where the configuration says so", async () => {
  const tls = await mailServer({ secure: true });
  await send(deps(), ann, mailOf(tls.port, { security: "tls", caFile: tls.caFile }), place, message, 1, never);
  const plain = await mailServer({ disabledCommands: ["STARTTLS"] });
  await send(deps(), ann, mailOf(plain.port, { security: "none" }), place, message, 1, never);
  expect([...tls.mails, ...plain.mails].map(({ secure }) => secure)).toEqual([true, false]);
});

test("mail is not sent in clear, to a server that nobody vouches for, or with a wrong password", async () => {
  const failing = async (mail: MailConfig | null): Promise<string> =>
    send(deps(), ann, mail, place, message, 1, never).then(
      () => "sent",
      (error: Error) => error.message,
    );
  const clear = await mailServer({ disabledCommands: ["STARTTLS"] });
  expect(await failing(mailOf(clear.port))).toMatch(/^The mail server localhost did not take it: .*STARTTLS/i);
  const { port, mails, caFile } = await mailServer();
  expect(await failing(mailOf(port))).toMatch(/^The mail server localhost did not take it: .*certificate/);
  expect(await failing(mailOf(port, { user: "farm", password: { env: "HOOK" }, caFile }))).toMatch(/wrong password/);
  expect(await failing(null)).toMatch(/^Cannot send mail: the configuration has no notify.mail/);
  expect([...clear.mails, ...mails]).toEqual([]);
});

test("nobody is waited for who takes long once the signal aborts, and their connection is cut", async () => {
  const servers = [createServer(() => {}), createTcpServer()]; // one takes the request, one the connection, and no more
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const connected = once(server, "connection") as Promise<[SocketOfServer]>;
    const { port } = server.address() as AddressInfo;
    const recipient = server === servers[0] ? webhook(`http://127.0.0.1:${port}/`) : ann;
    const stop = new AbortController();
    const mail = { ...mailOf(port, { security: "none" }), host: "127.0.0.1" };
    const said = send(deps(), recipient, mail, place, message, 1, stop.signal).catch((error: Error) => error.message);
    const [socket] = await connected;
    socket.on("error", () => {}).resume();
    const closed = new Promise((resolve) => socket.on("close", resolve));
    stop.abort(new Error("enough"));
    expect(await said).toMatch(/: enough$/);
    await closed;
  }
});

test("a mail server that never answers is given up", async () => {
  const { url } = await receiver(); // speaks HTTP, and waits for the client to begin
  const clock = new FakeClock();
  const port = Number(new URL(url).port);
  const sending = send(deps(clock), ann, mailOf(port, { security: "none" }), place, message, 1, never);
  const said = sending.catch((error: Error) => error.message);
  await clock.advance(20_000 as never);
  expect(await said).toBe("The mail server localhost did not take it: it took longer than 20 s");
});
