/**
 * Who may change something: whoever holds the operator token. Reading is open.
 *
 * A browser shows the token once, at /login, and gets a cookie: an expiry and its HMAC under a key made from the token. So nothing is stored,
 * every coordinator of the farm accepts it, and a new token ends every login. A program sends the token itself as a bearer.
 *
 * A request that changes something with the cookie must come from our own pages: the cookie is SameSite=Strict, and `Origin` (or
 * `Sec-Fetch-Site`) must say the same. A bearer needs neither: no browser adds it by itself.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { getCookie } from "hono/cookie";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ctx, json, wantsJson } from "./http.ts";

const COOKIE = "barnraiser_operator";
const KEPT_MS = 30 * 24 * 3600_000;
/** Wrong tokens in a row of ATTEMPT_MS that one address, and all of them together, may send. */
const ATTEMPTS = 10;
const ATTEMPTS_OF_ALL = 100;
const ATTEMPT_MS = 60_000;

export class Operator {
  readonly #digest: Buffer;
  readonly #key: Buffer;
  readonly #clock: Clock;
  /** address -> wrong tokens since; "" counts all. */
  readonly #wrong = new Map<string, { count: number; since: number }>();

  constructor(token: string, clock: Clock) {
    this.#digest = sha256(token);
    this.#key = createHmac("sha256", token).update("barnraiser operator cookie 1").digest();
    this.#clock = clock;
  }

  isToken(token: string): boolean {
    return timingSafeEqual(sha256(token), this.#digest);
  }

  /** Logged in by cookie or by bearer. */
  is(c: Ctx): boolean {
    return this.#bearer(c) || this.#hasCookie(c);
  }

  /** Whether this request may change something: "yes", or why not. */
  mayAct(c: Ctx): "yes" | "no-login" | "foreign" {
    if (this.#bearer(c)) return "yes";
    if (!this.#hasCookie(c)) return "no-login";
    return ownOrigin(c) ? "yes" : "foreign";
  }

  cookie(c: Ctx): string {
    const expires = this.#clock.now() + KEPT_MS;
    return `${COOKIE}=${expires}.${this.#sign(String(expires))}; Path=/; Max-Age=${KEPT_MS / 1000}; HttpOnly; SameSite=Strict${secure(c)}`;
  }

  noCookie(c: Ctx): string {
    return `${COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict${secure(c)}`;
  }

  /** Seconds to wait before another token is looked at; 0: at once. */
  delay(address: string): number {
    return Math.max(this.#over(address, ATTEMPTS), this.#over("", ATTEMPTS_OF_ALL));
  }

  wrong(address: string): void {
    const now = this.#clock.now();
    for (const [key, value] of this.#wrong) if (now - value.since >= ATTEMPT_MS) this.#wrong.delete(key);
    for (const key of [address, ""]) {
      const known = this.#wrong.get(key) ?? { count: 0, since: now };
      known.count++;
      this.#wrong.set(key, known);
    }
  }

  #over(key: string, limit: number): number {
    const known = this.#wrong.get(key);
    if (!known || known.count < limit) return 0;
    return Math.max(0, Math.ceil((known.since + ATTEMPT_MS - this.#clock.now()) / 1000));
  }

  #bearer(c: Ctx): boolean {
    const sent = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    if (sent === undefined) return false;
    const address = addressOf(c);
    if (this.delay(address) > 0) return false;
    const right = this.isToken(sent);
    if (!right) this.wrong(address);
    return right;
  }

  #hasCookie(c: Ctx): boolean {
    const [expires = "", signature = ""] = (getCookie(c, COOKIE) ?? "").split(".");
    if (!/^\d{1,15}$/.test(expires) || Number(expires) < this.#clock.now()) return false;
    return timingSafeEqual(sha256(signature), sha256(this.#sign(expires)));
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }
}

/** Does `work` if whoever asks may, and answers with what was done (the command line), or by going to `to` (a button). */
export type Act = (c: Ctx, to: string, work: () => Promise<{ message: string; to?: string }>) => Promise<Response>;

export function acting(operator: Operator): Act {
  return async (c, to, work) => {
    const may = operator.mayAct(c);
    if (may === "no-login")
      throw new FarmError(
        "unauthenticated",
        "Cannot do this without the operator token: log in, or send it as a bearer",
      );
    if (may === "foreign")
      throw new FarmError("forbidden", "Cannot do this for another site: use the button of the farm's own page");
    const { message, to: result } = await work();
    if (wantsJson(c)) return json(c, 200, { message });
    return c.redirect(result ?? to, 303);
  };
}

/** The request was made by one of our own pages. */
export function ownOrigin(c: Ctx): boolean {
  const origin = c.req.header("origin");
  if (origin === undefined) return c.req.header("sec-fetch-site") === "same-origin";
  try {
    return new URL(origin).host === new URL(c.req.url).host;
  } catch {
    return false; // "null", from a sandbox
  }
}

export function addressOf(c: Ctx): string {
  return c.env?.incoming?.socket?.remoteAddress ?? "unknown";
}

function secure(c: Ctx): string {
  return new URL(c.req.url).protocol === "https:" ? "; Secure" : "";
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
