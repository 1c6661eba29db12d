/**
 * The two ways out: a webhook and mail. Each rejects with a FarmError that says why, without a secret in it.
 *
 *   webhook  POST of JSON. With a secret: `Barnraiser-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY`.
 *            Anything but a 2xx within SEND_LIMIT is a failure. Redirects are not followed, so that nobody can send the
 *            farm elsewhere
 *   mail     SMTP with TLS from the first byte, or with STARTTLS, which is demanded, or with neither; certificates are
 *            verified
 *
 * A message has the same id however often it is sent, for receivers that care: `Barnraiser-Delivery`, `Message-ID`.
 */
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Socket } from "node:net";
import { createTransport } from "nodemailer";
import type { MailConfig, Recipient } from "../config/effective.ts";
import type { Secret } from "../config/input.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, seconds } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import { clean, type Message, type Place } from "./message.ts";

export const SEND_LIMIT: Ms = seconds(20);

export interface ChannelDeps {
  readonly clock: Clock;
  readonly secret: (secret: Secret) => Promise<string>;
  /** The path of a file that the configuration names. */
  readonly file: (path: string) => string;
}

/**
 * Sends `message` as number `id` to `recipient`. When `signal` aborts, the connection is cut, and nobody knows whether
 * it arrived.
 */
export async function send(
  deps: ChannelDeps,
  recipient: Recipient,
  mail: MailConfig | null,
  place: Place,
  message: Message,
  id: number,
  signal: AbortSignal,
): Promise<void> {
  if (recipient.kind === "webhook") return post(deps, recipient, place, message, id, signal);
  if (mail === null) {
    throw new FarmError(
      "unavailable",
      "Cannot send mail: the configuration has no notify.mail, which names the mail server",
    );
  }
  return sendMail(deps, recipient.address, mail, place, message, id, signal);
}

async function post(
  deps: ChannelDeps,
  recipient: Extract<Recipient, { kind: "webhook" }>,
  place: Place,
  message: Message,
  id: number,
  signal: AbortSignal,
): Promise<void> {
  const now = deps.clock.now();
  const url = typeof recipient.url === "string" ? recipient.url : await deps.secret(recipient.url);
  const { event, title, text, items } = message;
  const body = JSON.stringify({ id, event, at: new Date(now).toISOString(), farm: place.farm, title, text, items });
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "user-agent": "barnraiser",
    "barnraiser-delivery": String(id),
  };
  if (recipient.secret !== null) {
    const stamp = Math.floor(now / 1000);
    const sum = createHmac("sha256", await deps.secret(recipient.secret))
      .update(`${stamp}.${body}`)
      .digest("hex");
    headers["barnraiser-signature"] = `t=${stamp},v1=${sum}`;
  }
  let response: Response;
  try {
    response = await inTime(deps.clock, signal, (limited) =>
      fetch(url, { method: "POST", headers, body, redirect: "manual", signal: limited }),
    );
  } catch (error) {
    throw new FarmError("unavailable", `The webhook does not answer: ${whyOf(error)}`, { cause: error });
  }
  await response.body?.cancel().catch(() => {});
  if (response.ok) return;
  const { status } = response;
  const what = status >= 300 && status < 400 ? `answered ${status}: redirects are not followed` : `answered ${status}`;
  throw new FarmError("unavailable", `The webhook ${what}`);
}

async function sendMail(
  deps: ChannelDeps,
  to: string,
  mail: MailConfig,
  place: Place,
  message: Message,
  id: number,
  signal: AbortSignal,
): Promise<void> {
  const { host, port, security, user, password, from } = mail;
  const ca = mail.caFile === null ? undefined : await readFile(deps.file(mail.caFile));
  const socket = new Socket(); // ours, to be cut: a transport that is closed lets go of it only when the server does
  const transport = createTransport({
    socket,
    host,
    port,
    secure: security === "tls",
    requireTLS: security === "starttls",
    ignoreTLS: security === "none",
    ...(user === null ? {} : { auth: { user, pass: password === null ? "" : await deps.secret(password) } }),
    tls: { rejectUnauthorized: true, ...(ca === undefined ? {} : { ca }) },
    connectionTimeout: SEND_LIMIT,
    greetingTimeout: SEND_LIMIT,
    socketTimeout: SEND_LIMIT,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    await inTime(deps.clock, signal, () =>
      transport.sendMail({
        from: { name: clean(place.farm), address: from },
        to: { name: "", address: to },
        subject: clean(message.title),
        text: message.text,
        messageId: `<notice-${id}@${from.slice(from.indexOf("@") + 1)}>`,
        headers: { "Auto-Submitted": "auto-generated" },
      }),
    );
  } catch (error) {
    throw new FarmError("unavailable", `The mail server ${host} did not take it: ${whyOf(error)}`, { cause: error });
  } finally {
    transport.close();
    socket.destroy();
  }
}

function inTime<T>(clock: Clock, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new FarmError("timed-out", `it took longer than ${SEND_LIMIT / 1000} s`);
  return within(clock, SEND_LIMIT, [signal], late, work);
}

/** The reason of a failed `fetch`, which hides it in the cause. */
function whyOf(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? messageOf(error.cause) : messageOf(error);
}
