/**
 * The operator: the holder of the farm's operator token.
 *
 * A browser shows the token once, at /login, and gets a cookie: an expiry and its HMAC under a key made from the token.
 * So nothing is stored, every coordinator of the farm accepts the cookie, and a new token ends every login. A program
 * sends the token itself as a bearer.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { getCookie } from "hono/cookie";
import type { Clock } from "../farm/clock.ts";
import { type Ctx, cookieText } from "./http.ts";

const COOKIE = "barnraiser_operator";
const KEPT_MS = 30 * 24 * 3600_000;

export class Operator {
  readonly #digest: Buffer;
  readonly #key: Buffer;
  readonly #clock: Clock;

  constructor(token: string, clock: Clock) {
    this.#digest = sha256(token);
    this.#key = createHmac("sha256", token).update("barnraiser operator cookie 1").digest();
    this.#clock = clock;
  }

  isToken(token: string): boolean {
    return timingSafeEqual(sha256(token), this.#digest);
  }

  hasCookie(c: Ctx): boolean {
    const [expires = "", signature = ""] = (getCookie(c, COOKIE) ?? "").split(".");
    if (!/^\d{1,15}$/.test(expires) || Number(expires) < this.#clock.now()) return false;
    return timingSafeEqual(sha256(signature), sha256(this.#sign(expires)));
  }

  cookie(c: Ctx): string {
    const expires = this.#clock.now() + KEPT_MS;
    return cookieText(c, COOKIE, `${expires}.${this.#sign(String(expires))}`, {
      seconds: KEPT_MS / 1000,
      site: "Strict",
    });
  }

  noCookie(c: Ctx): string {
    return cookieText(c, COOKIE, "", { seconds: 0, site: "Strict" });
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
