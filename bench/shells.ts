/**
 * 500 people at their shells on one coordinator: what each open shell costs it, and how fast a key is echoed among them.
 *
 * SHELLS simulated machines are borrowed, each as an instance, by so many people that nobody has more than they may; each instance then has a shell
 * open in a browser of its borrower (WebSocket over TLS, signed in by its cookie, recorded), which goes to its machine over a connection of its
 * own. The machines' shells are the coordinator's protocol with nothing behind it: what is typed comes back. Memory is the coordinator's
 * resident set with all of them open and at rest, less what it had with the instances alone, by their number. Then one key after the other is
 * typed into one shell or another.
 */
import { readFile } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { WebSocket } from "ws";
import { GomoteService } from "../src/wire/gomote/gen/gomote_pb.ts";
import type { Bench } from "./bench.ts";
import { type Borrower, borrower } from "./borrower.ts";
import { BenchFarm } from "./farm.ts";
import { atMost, percentile } from "./figure.ts";
import { processorMs, residentBytes } from "./program.ts";
import { delay } from "./wait.ts";

const SHELLS = 500;
/** Shells of one person; the farm gives them a few more. */
const OF_PERSON = 15;
const AT_A_TIME = 16;
const JOIN_LIMIT_MS = 60_000;
const SETTLE_MS = 5_000;
const IDLE_MS = 15_000;
const RUNS = 5;
const KEYS = 300;
const PAUSE_MS = 5;
const TYPE = "linux-amd64-bench";

export const shells: Bench = {
  name: "shells",
  of: "gomote",
  about: "500 instances with an open shell each: memory of each, processor time, milliseconds until a key is echoed",
  limitMs: 240_000,
  async run(context) {
    const { signal } = context;
    await using farm = await BenchFarm.start(context);
    const { pid } = farm.coordinator;
    await using fleet = await farm.simulate({ prefix: "lent", count: SHELLS });
    await fleet.connected(SHELLS, JOIN_LIMIT_MS, signal);
    const ca = await readFile(farm.certificate.caFile);
    const transport = createGrpcTransport({ baseUrl: `https://localhost:${farm.port}`, nodeOptions: { ca } });
    const client = createClient(GomoteService, transport);
    const people: Borrower[] = [];
    for (let n = 0; n * OF_PERSON < SHELLS; n++) people.push(await borrower(farm, `person${n}`));

    const create = async ({ token }: Borrower): Promise<string> => {
      const options = { headers: { authorization: `Bearer ${token}` }, signal };
      let name = "";
      for await (const { instance } of client.createInstance({ builderType: TYPE }, options))
        name = instance?.gomoteId ?? "";
      return name;
    };
    const borrowed = await severally(SHELLS, async (n) => {
      const person = people[Math.floor(n / OF_PERSON)] as Borrower;
      return { person, name: await create(person) };
    });
    context.note(`${SHELLS} instances are up`);
    await delay(SETTLE_MS, signal);
    const before = await residentBytes(pid);
    await using stack = new AsyncDisposableStack();
    const opening = performance.now();
    const open = await severally(SHELLS, async (n) => {
      const { person, name } = borrowed[n] as (typeof borrowed)[number];
      const shell = await BrowserShell.open(farm.port, ca, person.cookie, name);
      stack.defer(() => shell.close());
      return shell;
    });
    context.note(`all have a shell open, after ${((performance.now() - opening) / 1000).toFixed(1)} s`);
    await delay(SETTLE_MS, signal);
    const each = ((await residentBytes(pid)) - before) / 1024 / SHELLS;
    const processorBefore = await processorMs(pid);
    const idleSince = performance.now();
    await delay(IDLE_MS, signal);
    const share = (100 * ((await processorMs(pid)) - processorBefore)) / (performance.now() - idleSince);
    context.report({ figure: "memory-each", unit: "KB", values: [each], goal: atMost(200) });
    context.report({ figure: "idle-cpu", unit: "% of a core", values: [share], goal: atMost(8) });

    const values: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      const spans: number[] = [];
      for (let n = 0; n < KEYS; n++) {
        spans.push(await (open[(n * 7 + run) % SHELLS] as BrowserShell).echo());
        await delay(PAUSE_MS, signal);
      }
      values.push(percentile(spans, 99));
      context.note(`run ${run} of ${RUNS}: echo ${values.at(-1)?.toFixed(1)} ms`);
    }
    context.report({ figure: "echo-p99", unit: "ms", values, goal: atMost(30) });
  },
};

/** What `work` gives for each number below `count`, a few at a time. */
async function severally<T>(count: number, work: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async () => {
    for (let n = next++; n < count; n = next++) results[n] = await work(n);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  return results;
}

class BrowserShell {
  readonly #socket: WebSocket;
  #seen: () => void = () => {};

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (_, isBinary) => {
      if (isBinary) this.#seen();
    });
  }

  static async open(port: number, ca: Buffer, cookie: string, name: string): Promise<BrowserShell> {
    const origin = `https://localhost:${port}`;
    const socket = new WebSocket(`wss://localhost:${port}/gomotes/${name}/shell`, { ca, headers: { cookie, origin } });
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.once("open", () => socket.send(JSON.stringify({ open: { columns: 80, rows: 24, shell: null, from: 0 } })));
      socket.once("message", (data) => {
        const said = data.toString();
        if (said.includes("opened")) resolve();
        else reject(new Error(`Cannot open a shell on ${name}: ${said}`));
      });
    });
    return new BrowserShell(socket);
  }

  /** Types a key; how long it took until it was back, in ms. */
  async echo(): Promise<number> {
    const began = performance.now();
    await new Promise<void>((resolve) => {
      this.#seen = resolve;
      this.#socket.send(Buffer.from("k"));
    });
    return performance.now() - began;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.terminate();
    await closed;
  }
}
