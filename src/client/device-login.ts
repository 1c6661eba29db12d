/**
 * Gets a token without a secret being typed here (RFC 8628). The farm gives a short code. The person enters it in a
 * browser in which they are signed in. Meanwhile this computer asks every few seconds whether they have.
 */
import type { IncomingMessage } from "node:http";
import { hostname } from "node:os";
import { httpRequest } from "../dial/http-get.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { seconds } from "../farm/ids.ts";
import type { Server } from "./server.ts";

const REQUEST_LIMIT_MS = 30_000;
const ANSWER_LIMIT = 64 * 1024;
const PROGRAM = "gomote";
const GRANT = "urn:ietf:params:oauth:grant-type:device_code";

export interface DeviceLoginDeps {
  readonly server: Server;
  readonly clock: Clock;
  /** Tells the person where to go and what to enter there. */
  readonly show: (address: string, code: string) => Promise<void>;
}

/** The token. Throws when the person refuses, or does not answer in time. */
export async function deviceLogin({ server, clock, show }: DeviceLoginDeps, signal: AbortSignal): Promise<string> {
  const asked = await post(server, "/device/code", { client_id: PROGRAM, name: hostname() }, signal);
  const deviceCode = text(asked, "device_code");
  await show(text(asked, "verification_uri"), text(asked, "user_code"));
  const giveUp = clock.monotonic() + number(asked, "expires_in") * 1000;
  let interval = number(asked, "interval");
  while (clock.monotonic() < giveUp) {
    await clock.sleep(seconds(interval), signal);
    const answer = await post(
      server,
      "/token",
      { grant_type: GRANT, device_code: deviceCode, client_id: PROGRAM },
      signal,
    );
    if (answer.body.error === undefined) return text(answer, "access_token");
    if (answer.body.error === "slow_down") interval += 5;
    else if (answer.body.error !== "authorization_pending") throw refused(answer);
  }
  throw new FarmError("timed-out", "Cannot log in: nobody entered the code in time; run `gomote login` again");
}

interface Answer {
  readonly status: number;
  readonly body: { readonly [name: string]: unknown };
}

function refused({ body }: Answer): FarmError {
  const reasons: { readonly [error: string]: string } = {
    access_denied: "the answer in the browser was no",
    expired_token: "nobody entered the code in time; run `gomote login` again",
  };
  return new FarmError(
    "unauthenticated",
    `Cannot log in: ${reasons[String(body.error)] ?? body.error_description ?? body.error}`,
  );
}

function text({ status, body }: Answer, name: string): string {
  const value = body[name];
  if (typeof value === "string" && value !== "") return value;
  throw new FarmError(
    "internal",
    `Cannot log in: the farm answered ${status} without ${name}; is it one that lends its machines?`,
  );
}

function number(answer: Answer, name: string): number {
  const value = answer.body[name] ?? (name === "interval" ? 5 : undefined);
  return typeof value === "number" && value > 0 ? value : Number(text(answer, name));
}

async function post(server: Server, path: string, form: Record<string, string>, signal: AbortSignal): Promise<Answer> {
  const body = new URLSearchParams(form).toString();
  try {
    const response = await httpRequest(new URL(path, `https://${server.name}`), {
      method: "POST",
      headers: {
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": String(Buffer.byteLength(body)),
      },
      body: (async function* () {
        yield Buffer.from(body);
      })(),
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]),
      ...(server.ca === undefined ? {} : { tls: { rejectUnauthorized: true, ca: server.ca } }),
    });
    return { status: response.statusCode ?? 0, body: parse(await textOf(response)) };
  } catch (error) {
    signal.throwIfAborted();
    throw new FarmError("unavailable", `Cannot log in: ${messageOf(error)}`, { cause: error });
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let all = "";
  for await (const chunk of response) {
    all += String(chunk);
    if (all.length > ANSWER_LIMIT) throw new Error("the answer is too long");
  }
  return all;
}

function parse(text: string): Answer["body"] {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Answer["body"]) : {};
  } catch {
    return {}; // the code that misses a field reports it
  }
}
