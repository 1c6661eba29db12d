/** Requests to http and https URLs, with the environment's proxy; GET and HEAD with a few redirects. */
import type { IncomingMessage, RequestOptions } from "node:http";
import { Readable } from "node:stream";
import { messageOf } from "../farm/errors.ts";
import { proxyFor } from "./proxy.ts";

const REDIRECTS = 10;

export interface GetOptions {
  readonly method?: "GET" | "HEAD";
  /** TLS: rejectUnauthorized, ca; for hosts that are ours. */
  readonly tls?: { readonly rejectUnauthorized: boolean; readonly ca?: string };
  readonly signal?: AbortSignal;
  /** How long nothing may move, in either direction. */
  readonly idleLimitMs?: number;
}

export interface SendOptions extends Omit<GetOptions, "method"> {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent in chunks, since nobody knows how long it will be. */
  readonly body?: AsyncIterable<Uint8Array>;
}

/** The answer, whatever its status, after redirects. Whoever asked must read or destroy it. */
export async function httpGet(url: string, options: GetOptions = {}): Promise<IncomingMessage> {
  let at = new URL(url);
  for (let hop = 0; hop <= REDIRECTS; hop++) {
    const response = await httpRequest(at, { ...options, method: options.method ?? "GET" });
    const { statusCode = 0, headers } = response;
    if (![301, 302, 303, 307, 308].includes(statusCode) || headers.location === undefined) return response;
    response.resume();
    const next = new URL(headers.location, at);
    if (at.protocol === "https:" && next.protocol !== "https:") {
      throw new Error(`Cannot follow ${at.href} to ${next.href}: it leaves https`);
    }
    at = next;
  }
  throw new Error(`Cannot get ${url}: more than ${REDIRECTS} redirects`);
}

/** The body of a 200. */
export async function fetchBody(url: string, options: GetOptions = {}): Promise<IncomingMessage> {
  const response = await httpGet(url, options);
  if (response.statusCode === 200) return response;
  response.destroy();
  throw new Error(`the answer is ${response.statusCode} ${response.statusMessage}`);
}

/** The answer to one request, whatever it is. */
export async function httpRequest(url: URL, options: SendOptions): Promise<IncomingMessage> {
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new Error(`want http or https, not ${url.protocol}`);
  const secure = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port) || (secure ? 443 : 80);
  const proxy = proxyFor(secure ? "https" : "http", { host, port }, process.env);
  const common: RequestOptions = {
    method: options.method,
    agent: false,
    headers: { "User-Agent": "barnraiser", "Accept-Encoding": "identity", ...options.headers },
    ...(options.signal ? { signal: options.signal } : {}),
  };
  if (secure) {
    const https = await import("node:https");
    // The client's own way through a proxy: the tunnel is opened first and TLS runs in it.
    const tunnel = proxy ? { createConnection: await tunnelTo(host, port, options) } : {};
    return await answer((done) => https.request(url, { ...common, ...options.tls, ...tunnel }, done), url, options);
  }
  const http = await import("node:http");
  const target = proxy
    ? { host: proxy.host, port: proxy.port, path: url.href, headers: { ...common.headers, Host: url.host } }
    : {};
  return await answer((done) => http.request(url, { ...common, ...target }, done), url, options);
}

async function tunnelTo(
  host: string,
  port: number,
  options: SendOptions,
): Promise<NonNullable<RequestOptions["createConnection"]>> {
  const [{ dialTcp }, { connect }, { isIP }] = await Promise.all([
    import("./dial.ts"),
    import("node:tls"),
    import("node:net"),
  ]);
  const socket = await dialTcp({ host, port }, process.env, options.signal ?? new AbortController().signal);
  return () => connect({ socket, host, ...(isIP(host) === 0 ? { servername: host } : {}), ...options.tls });
}

function answer(
  start: (done: (response: IncomingMessage) => void) => import("node:http").ClientRequest,
  url: URL,
  { method, body, idleLimitMs }: SendOptions,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const asked = start(resolve);
    const failed = (error: unknown) =>
      reject(new Error(`Cannot ${method.toLowerCase()} ${url.href}: ${messageOf(error)}`, { cause: error }));
    asked.once("error", failed);
    if (idleLimitMs !== undefined)
      asked.setTimeout(idleLimitMs, () => asked.destroy(new Error(`nothing moved for ${idleLimitMs / 1000} s`)));
    if (body === undefined) asked.end();
    else
      Readable.from(body)
        .once("error", (error) => asked.destroy(error))
        .pipe(asked);
  });
}
