/** Requests and answers: headers of every answer, compression, fields of forms, addresses to go back to. */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { FarmError } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { Identity } from "./identity.ts";

export type Env = {
  Bindings: Partial<HttpBindings>;
  Variables: {
    identity: Promise<Identity> | undefined;
    /** When the request arrived. */
    askedAt: EpochMs;
  };
};
export type Ctx = Context<Env>;

const squeeze = promisify(gzip);
/** For our HTML, level 5 costs a third of the time of level 9, and its result is at most a tenth larger. */
const LEVEL = 5;
const WORTH_SQUEEZING = 1400; // bytes: one packet

/** Headers of every answer. No page loads anything from elsewhere, runs inline script, or may be framed. */
export const SECURITY: Readonly<Record<string, string>> = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "same-origin",
  "Cross-Origin-Opener-Policy": "same-origin",
};

export async function send(
  c: Ctx,
  status: number,
  type: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Response> {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const all: Record<string, string> = {
    "Content-Type": type,
    "Cache-Control": "no-cache",
    Vary: "Accept-Encoding, Cookie",
    ...headers,
  };
  const compressed = bytes.length >= WORTH_SQUEEZING && /\bgzip\b/.test(c.req.header("accept-encoding") ?? "");
  const sent = compressed ? await squeeze(bytes, { level: LEVEL }) : bytes;
  if (compressed) all["Content-Encoding"] = "gzip";
  // The answer is made by the context, which adds the cookies and headers that were set on it.
  return c.body(new Uint8Array(sent), status as ContentfulStatusCode, all);
}

export function html(c: Ctx, status: number, text: string, headers: Record<string, string> = {}): Promise<Response> {
  return send(c, status, "text/html; charset=utf-8", text, headers);
}

export function json(c: Ctx, status: number, value: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return send(c, status, "application/json; charset=utf-8", JSON.stringify(value), headers);
}

/** Answers with JSON, indented as upstream indents it. */
export function tabbed(c: Ctx, value: unknown): Promise<Response> {
  return send(c, 200, "application/json; charset=utf-8", `${JSON.stringify(value, null, "\t")}\n`);
}

export function text(c: Ctx, status: number, body: string, headers: Record<string, string> = {}): Promise<Response> {
  return send(c, status, "text/plain; charset=utf-8", body, headers);
}

export function wantsJson(c: Ctx): boolean {
  return c.req.query("format") === "json" || /^application\/json\b/.test(c.req.header("accept") ?? "");
}

/** A path and query of ours to go back to. Anything else (another host, `//host`, a control character) becomes "/". */
export function ownPath(path: string | undefined): string {
  return path !== undefined && /^\/(?![/\\])[\x21-\x7e]*$/.test(path) ? path : "/";
}

export function positive(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined;
}

/**
 * The text of a cookie for our own pages, which no script can read. A cookie that was set over TLS is sent over TLS
 * only.
 */
export function cookieText(
  c: Ctx,
  name: string,
  value: string,
  { seconds, site }: { readonly seconds: number; readonly site: "Strict" | "Lax" },
): string {
  return `${name}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=${site}${isSecure(c) ? "; Secure" : ""}`;
}

export function isSecure(c: Ctx): boolean {
  return new URL(c.req.url).protocol === "https:";
}

/** The headers of an answer for one person alone: no cache keeps it. */
export const OWN: Readonly<Record<string, string>> = { "Cache-Control": "no-store" };

/** Whether one of our own pages made the request. */
export function ownOrigin(c: Ctx): boolean {
  const origin = c.req.header("origin");
  if (origin === undefined) return c.req.header("sec-fetch-site") === "same-origin";
  try {
    return new URL(origin).host === new URL(c.req.url).host;
  } catch {
    return false; // the origin is "null", as a sandboxed page sends it
  }
}

export function addressOf(c: Ctx): string {
  return c.env?.incoming?.socket?.remoteAddress ?? "unknown";
}

/**
 * Reads a field of a form: "" when the field is missing or is a file. Throws FarmError `bad-request` when it holds a
 * NUL, which PostgreSQL refuses.
 */
export type Form = (field: string) => string;

export async function formOf(c: Ctx): Promise<Form> {
  const body = await c.req.parseBody();
  return (field) => {
    const value = body[field];
    return typeof value === "string" ? withoutNul(field, value) : "";
  };
}

/** All values of a field that may be given several times. Throws as a Form does. */
export async function valuesOf(c: Ctx, field: string): Promise<readonly string[]> {
  const body = await c.req.parseBody({ all: true });
  const values = [body[field] ?? []].flat().filter((value) => typeof value === "string");
  return values.map((value) => withoutNul(field, value));
}

function withoutNul(field: string, value: string): string {
  if (!value.includes("\0")) return value;
  throw new FarmError("bad-request", `Cannot take the field ${JSON.stringify(field)}: it holds a NUL.`);
}

/** The page that the button is on, by `Referer`; `otherwise` when that is missing or of another host. */
export function back(c: Ctx, otherwise: string): string {
  try {
    const from = new URL(c.req.header("referer") ?? "");
    return from.host === new URL(c.req.url).host ? from.pathname + from.search : otherwise;
  } catch {
    return otherwise;
  }
}
