/**
 * Files on their way between this computer and the farm: posted as the form that UploadFile describes, or fetched from
 * the URL that ReadTGZToURL gives. No file is ever whole in memory. A transfer may take any time while it moves.
 */
import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { httpGet, httpRequest } from "../dial/http-get.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { FarmClient } from "./farm-client.ts";
import type { Server } from "./server.ts";

const IDLE_LIMIT_MS = 60_000;
/** How long the answer may take: the farm may first have to write the whole file to its store. */
const ANSWER_LIMIT_MS = 5 * 60_000;
const SUCCESS = 204;

/** Uploads `body`. Resolves with the URL by which the farm then knows it. `fileName` is for the form only. */
export async function upload(client: FarmClient, fileName: string, body: AsyncIterable<Uint8Array>): Promise<string> {
  const { url, fields, objectName } = await client.uploadPlace();
  const boundary = randomBytes(24).toString("hex");
  const response = await httpRequest(new URL(url), {
    method: "POST",
    headers: { "Content-Type": `multipart/form-data; boundary=${boundary}` },
    body: form(boundary, fields, fileName || objectName, body),
    idleLimitMs: ANSWER_LIMIT_MS,
    signal: client.connection.signal,
    ...trustFor(url, client.connection.server),
  }).catch((error: unknown) => {
    throw new FarmError("unavailable", `Cannot upload: ${messageOf(error)}`, { cause: error });
  });
  const said = await briefly(response);
  if (response.statusCode === SUCCESS) return url + objectName;
  throw new FarmError("unavailable", `Cannot upload: ${new URL(url).host} answered ${response.statusCode} ${said}`);
}

/** Saves `url` as the file `path`, which exists only once it is whole. Resolves with its size in bytes. */
export async function download(server: Server, url: string, path: string, signal: AbortSignal): Promise<number> {
  const draft = `${path}.part-${process.pid}`;
  let bytes = 0;
  try {
    const response = await httpGet(url, { idleLimitMs: IDLE_LIMIT_MS, signal, ...trustFor(url, server) });
    if (response.statusCode !== 200) {
      throw new Error(`${new URL(url).host} answered ${response.statusCode} ${await briefly(response)}`);
    }
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    await pipeline(response, createWriteStream(draft));
    await rename(draft, path);
    return bytes;
  } catch (error) {
    await rm(draft, { force: true });
    throw new FarmError("unavailable", `Cannot fetch ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Whom to trust for `url`. The farm's own authority counts for the farm itself only. */
function trustFor(url: string, { address, ca }: Server): { readonly tls?: { rejectUnauthorized: true; ca: string } } {
  const { hostname } = new URL(url);
  if (ca === undefined || hostname.replace(/^\[|\]$/g, "") !== address.host) return {};
  return { tls: { rejectUnauthorized: true, ca } };
}

async function* form(
  boundary: string,
  fields: { readonly [name: string]: string },
  fileName: string,
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const quoted = (text: string) => text.replaceAll(/[\r\n]/g, " ").replaceAll('"', "%22");
  const head = Object.entries(fields).map(
    ([name, value]) => `--${boundary}\r\nContent-Disposition: form-data; name="${quoted(name)}"\r\n\r\n${value}\r\n`,
  );
  head.push(
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${quoted(fileName)}"\r\n`,
    "Content-Type: application/octet-stream\r\n\r\n",
  );
  yield Buffer.from(head.join(""));
  yield* body;
  yield Buffer.from(`\r\n--${boundary}--\r\n`);
}

/** The first line of a short answer, for a message. */
async function briefly(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > 300) break;
  }
  return text.trim().split("\n", 1)[0]?.slice(0, 300) ?? "";
}
