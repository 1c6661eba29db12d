/**
 * Answers to the questions that an idle machine is asked again and again, /status and /healthz, without an HTTP server:
 * loading one would cost an idle agent several megabytes. Takes only a whole, plain request; anything else is left to
 * the real server.
 */
import { BUILDLET_VERSION } from "../../wire/buildlet-api/buildlet-api.ts";

export const STATUS_TYPE = "application/json; charset=utf-8";
export const STATUS_BODY: string = JSON.stringify({ Version: BUILDLET_VERSION });
export const HEALTH_BODY = "ok\n";

export interface QuickAnswer {
  readonly text: string;
  /** Whether the client wants the connection closed after the answer. */
  readonly last: boolean;
}

/** The response to `request`, or undefined when the HTTP server must answer it. */
export function quickAnswer(request: Uint8Array): QuickAnswer | undefined {
  if (request.length > 2048) return undefined;
  const text = Buffer.from(request).toString("latin1");
  const [, path] = /^GET \/(status|healthz) HTTP\/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n$/.exec(text) ?? [];
  if (path === undefined || /^(content-length|transfer-encoding|expect|upgrade|authorization):/im.test(text))
    return undefined;
  const [type, body] = path === "status" ? [STATUS_TYPE, STATUS_BODY] : ["text/plain; charset=utf-8", HEALTH_BODY];
  const last = /^connection:[ \t]*close[ \t]*$/im.test(text.replaceAll("\r", ""));
  const connection = last ? "Connection: close\r\n" : "";
  return {
    text: `HTTP/1.1 200 OK\r\n${connection}Content-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    last,
  };
}
