/**
 * Transfers over HTTP, below TRANSFERS_PATH (signed-urls.ts lists the paths). The signature says who may do what. There
 * are no cookies and no tokens here, so that any program can post and fetch.
 *
 * A form that was taken is answered with 204, and nothing else is. A refusal has a sentence. It comes while the rest of
 * the form may still be on its way. That rest is read and thrown away for READ_OUT_FOR, since a sender whose connection
 * breaks never reads the answer.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { finished, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { Meter } from "./meter.ts";
import { TRANSFERS_PATH } from "./signed-urls.ts";
import type { Transfers } from "./transfers.ts";
import { readUploadForm } from "./upload-form.ts";

const READ_OUT_FOR: Ms = seconds(10);
const TAKEN = 204;

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;
type Listener = (request: Request, response: Response) => void;

export interface ServeTransfersDeps {
  readonly transfers: Pick<Transfers, "receive" | "fetch">;
  readonly clock: Clock;
  readonly log: Log;
}

/** Answers requests below TRANSFERS_PATH and leaves all others to `next`. */
export function serveTransfers(deps: ServeTransfersDeps, next: Listener): Listener {
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (path.startsWith(TRANSFERS_PATH)) void serve(deps, path, request, response);
    else next(request, response);
  };
}

async function serve(deps: ServeTransfersDeps, path: string, request: Request, response: Response): Promise<void> {
  const { transfers, clock, log } = deps;
  try {
    const allowed = path === TRANSFERS_PATH ? ["POST"] : ["GET", "HEAD"];
    if (!allowed.includes(request.method ?? "")) {
      say(response, 405, `Only ${allowed.join(" and ")} here.`, { allow: allowed.join(", ") });
      return;
    }
    if (path !== TRANSFERS_PATH) {
      await give(deps, request, response);
      return;
    }
    await transfers.receive(await readUploadForm(metered(request, clock), request.headers["content-type"] ?? ""));
    head(response, TAKEN, {});
    response.end();
  } catch (error) {
    const { code, message } = FarmError.from(error);
    if (code === "internal") log.error({ path, error: messageOf(error) }, "A transfer failed");
    if (response.headersSent) {
      response.destroy(); // the client sees that it was cut off
      return;
    }
    const text = code === "internal" ? "Something went wrong here; the coordinator's log says more" : message;
    say(response, CODES[code].http, `${text}.`);
    await readOut(request, clock);
  }
}

async function give({ transfers, clock }: ServeTransfersDeps, request: Request, response: Response): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  const { transfer, body } = await transfers.fetch(request.url ?? "", left.signal);
  const { fileName, bytes } = transfer;
  head(response, 200, {
    "content-type": "application/octet-stream",
    "content-disposition": attachment(fileName ?? ""),
    ...(bytes !== null && { "content-length": String(bytes) }),
  });
  if (request.method === "HEAD") {
    body.destroy();
    response.end();
    return;
  }
  try {
    await pipeline(body, new Meter({ clock, what: "the download" }), response as NodeJS.WritableStream);
  } catch (error) {
    if (!left.signal.aborted) throw error;
  }
}

/** The body of a request, through a meter. A request that the meter stops can still be answered. */
function metered(request: Request, clock: Clock): Readable {
  const meter = new Meter({ clock, what: "the upload" });
  const body: Readable = request;
  finished(body, { writable: false }, (error) => {
    if (error) meter.destroy(error);
  });
  return body.pipe(meter);
}

/** Reads the rest of a request that is answered already, and throws it away. */
async function readOut(request: Request, clock: Clock): Promise<void> {
  if (request.complete || request.destroyed) return;
  const over = new AbortController();
  request.once("end", () => over.abort()).once("close", () => over.abort());
  request.unpipe();
  request.resume();
  await clock.sleep(READ_OUT_FOR, over.signal).catch(() => {});
  if (over.signal.aborted) return;
  if ("stream" in request) request.stream.destroy();
  else request.destroy();
}

function say(
  response: Response,
  status: number,
  sentence: string,
  fields: Readonly<Record<string, string>> = {},
): void {
  const body = `${sentence}\n`;
  const length = String(Buffer.byteLength(body));
  head(response, status, { ...fields, "content-type": "text/plain; charset=utf-8", "content-length": length });
  response.end(body);
}

/**
 * Writes the head of an answer to a URL with a secret: nobody on the way keeps the answer, no other site learns the
 * URL, and no browser takes the answer for a page.
 */
function head(response: Response, status: number, fields: Readonly<Record<string, string>>): void {
  const common = { "cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff" };
  (response as ServerResponse).writeHead(status, { ...common, ...fields });
}

/** The header of RFC 6266: a plain name for every client, the real name for those that can read it. */
function attachment(fileName: string): string {
  const plain = fileName.replaceAll(/[^\x20-\x7e]|["\\%]/g, "_");
  return `attachment; filename="${plain}"; filename*=UTF-8''${encodeURIComponent(fileName).replaceAll(/['()*]/g, "_")}`;
}
