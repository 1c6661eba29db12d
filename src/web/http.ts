/** Answers: headers that every answer has, compression, and what is put into them. */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";

export type Env = { Bindings: Partial<HttpBindings>; Variables: { operator: boolean } };
export type Ctx = Context<Env>;

const squeeze = promisify(gzip);
/** Level 5 costs a third of level 9 and is within a tenth of its size for our HTML. */
const LEVEL = 5;
const WORTH_SQUEEZING = 1400; // bytes: one packet

/** No page loads anything from elsewhere, runs script of its own text, or may be framed. */
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
  return new Response(new Uint8Array(sent), { status, headers: all });
}

export function html(c: Ctx, status: number, text: string): Promise<Response> {
  return send(c, status, "text/html; charset=utf-8", text);
}

export function json(c: Ctx, status: number, value: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return send(c, status, "application/json; charset=utf-8", JSON.stringify(value), headers);
}

/** As upstream indents it. */
export function tabbed(c: Ctx, value: unknown): Promise<Response> {
  return send(c, 200, "application/json; charset=utf-8", `${JSON.stringify(value, null, "\t")}\n`);
}

export function text(c: Ctx, status: number, body: string, headers: Record<string, string> = {}): Promise<Response> {
  return send(c, status, "text/plain; charset=utf-8", body, headers);
}

export function wantsJson(c: Ctx): boolean {
  return c.req.query("format") === "json" || /^application\/json\b/.test(c.req.header("accept") ?? "");
}

/** A path and query of ours to go back to; anything else (another host, `//host`, a control character) is the first page. */
export function ownPath(path: string | undefined): string {
  return path !== undefined && /^\/(?![/\\])[\x21-\x7e]*$/.test(path) ? path : "/";
}

export function positive(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined;
}

/** The page that the button is on. */
export function back(c: Ctx, otherwise: string): string {
  try {
    const from = new URL(c.req.header("referer") ?? "");
    return from.host === new URL(c.req.url).host ? from.pathname + from.search : otherwise;
  } catch {
    return otherwise;
  }
}
