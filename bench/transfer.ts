/**
 * Files on their way between people and machines: what it costs the coordinator to take a large one.
 *
 * `upload-rate` is of a form with a file of 300 MB, from a client on this computer over TLS, from its first byte to the 204.
 * `memory-growth` is how much larger the coordinator became at most meanwhile: a file is never whole in memory.
 */
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { GomoteService, type UploadFileResponse } from "../src/wire/gomote/gen/gomote_pb.ts";
import type { Bench } from "./bench.ts";
import { borrower } from "./borrower.ts";
import { BenchFarm } from "./farm.ts";
import { atMost } from "./figure.ts";
import { MemoryWatch, residentBytes } from "./program.ts";

const RUNS = 5;
const MB = 1_000_000;
const FILE_MB = 300;
const BOUNDARY = "bench";

export const transfer: Bench = {
  name: "transfer",
  about: "MB/s of an upload of 300 MB, and how much the coordinator grows meanwhile",
  limitMs: 120_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    const { token } = await borrower(farm, "alice");
    const ca = await readFile(farm.certificate.caFile);
    const transport = createGrpcTransport({ baseUrl: `https://localhost:${farm.port}`, nodeOptions: { ca } });
    const client = createClient(GomoteService, transport);
    const options = { headers: { authorization: `Bearer ${token}` }, signal: context.signal };
    const [rates, growths]: [number[], number[]] = [[], []];
    for (let run = 0; run <= RUNS; run++) {
      const place = await client.uploadFile({}, options);
      const before = await residentBytes(farm.coordinator.pid);
      await using memory = new MemoryWatch(farm.coordinator.pid);
      const began = performance.now();
      await upload(place, ca);
      const seconds = (performance.now() - began) / 1000;
      if (run === 0) continue; // what is loaded and compiled the first time
      rates.push(FILE_MB / seconds);
      growths.push(Math.max(0, memory.peakBytes - before) / MB);
      context.note(`run ${run} of ${RUNS}: ${rates.at(-1)?.toFixed(0)} MB/s, ${growths.at(-1)?.toFixed(0)} MB more`);
    }
    context.report({ figure: "upload-rate", unit: "MB/s", values: rates });
    context.report({ figure: "memory-growth", unit: "MB", values: growths, goal: atMost(50) });
  },
};

async function upload({ url, fields }: UploadFileResponse, ca: Buffer): Promise<void> {
  const headers = { "content-type": `multipart/form-data; boundary=${BOUNDARY}` };
  const outgoing = request(url, { method: "POST", ca, agent: false, headers });
  const status = new Promise<number | undefined>((resolve, reject) => {
    outgoing.on("error", reject).on("response", (response) => resolve(response.resume().statusCode));
  });
  await pipeline(Readable.from(form(fields), { objectMode: false }), outgoing);
  if ((await status) !== 204) throw new Error(`The upload was answered with ${await status}`);
}

function* form(fields: Readonly<Record<string, string>>): Generator<Buffer> {
  const part = (name: string, more = "") =>
    `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
  for (const [name, value] of Object.entries(fields)) yield Buffer.from(`${part(name)}${value}\r\n`);
  yield Buffer.from(part("file", '; filename="x"'));
  const chunk = Buffer.alloc(MB, "a file of a person's\n");
  for (let at = 0; at < FILE_MB; at++) yield chunk;
  yield Buffer.from(`\r\n--${BOUNDARY}--\r\n`);
}
