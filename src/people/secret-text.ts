/** Random secrets that people's programs and browsers show, and the digests that are kept of them. */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** How a token begins, so that a finder knows what it is, and scanners of repositories find it. */
const TOKEN_PREFIX = "brt_";
const TOKEN_BYTES = 30;
const TOKEN: RegExp = /^brt_[A-Za-z0-9_-]{40}$/;

export function newTokenText(): string {
  return TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString("base64url");
}

/** Whether `text` could be a token. Only such a text is looked up in the database. */
export function looksLikeToken(text: string): boolean {
  return TOKEN.test(text);
}

/** A new id of a letter and 9 hex digits. It is no secret. */
export function newId(letter: string): string {
  return letter + randomBytes(5).toString("hex").slice(0, 9);
}

export function sha256(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}

export function same(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
