/** A program that posts and fetches files and shares nothing with ours: node:http, with any form that a test likes. */
import { once } from "node:events";
import { type ClientRequest, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { buffer } from "node:stream/consumers";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

const BOUNDARY = "b0a2c4";
const TYPE = `multipart/form-data; boundary=${BOUNDARY}`;

/** Parts of a form in their order; a `file` has a name, as programs give it. */
export type Part = readonly [name: string, value: string | Buffer];

/** Posts the parts, chunked: no Content-Length. */
export function post(url: string, parts: readonly Part[], type: string = TYPE): Promise<Answer> {
  const { request, answer } = open("POST", url, type);
  for (const part of parts) writePart(request, part);
  request.end(`--${BOUNDARY}--\r\n`);
  return answer;
}

/** Posts the parts, and leaves out the end of the form. */
export function postBegun(url: string, parts: readonly Part[]): { request: ClientRequest; answer: Promise<Answer> } {
  const posted = open("POST", url, TYPE);
  for (const part of parts) writePart(posted.request, part);
  return posted;
}

export function get(url: string, method = "GET"): Promise<Answer> {
  return getBegun(url, method).answer;
}

/** `begun` resolves when the head of the answer is there. */
export function getBegun(url: string, method = "GET"): { begun: Promise<unknown>; answer: Promise<Answer> } {
  const { request, answer } = open(method, url);
  request.end();
  return { begun: once(request, "response"), answer };
}

function open(method: string, url: string, type?: string): { request: ClientRequest; answer: Promise<Answer> } {
  const send = url.startsWith("https:") ? requestHttps : requestHttp;
  const headers = type === undefined ? {} : { "content-type": type };
  const request = send(url, { method, headers, rejectUnauthorized: false, agent: false });
  const answer = new Promise<Answer>((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (response) => {
      const { statusCode = 0, headers } = response;
      buffer(response).then((body) => resolve({ status: statusCode, headers, body }), reject);
    });
  });
  answer.catch(() => {});
  return { request, answer };
}

function writePart(request: ClientRequest, [name, value]: Part): void {
  const more = name === "file" ? '; filename="x"\r\nContent-Type: application/octet-stream' : "";
  request.write(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`);
  request.write(value);
  request.write("\r\n");
}
