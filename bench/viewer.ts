/**
 * A person's browser with a log open, as far as the server can tell: one connection for events, one for questions.
 *
 * The log's topic is listened to on /events; whenever it changed, the block of lines at the end is asked for, never twice at
 * once, and once more if it changed meanwhile. Lines hold the time at which they were printed, between two `@`.
 */
import { Agent, type ClientRequest, get, type IncomingMessage } from "node:http";
import { gunzipSync } from "node:zlib";
import { wallMs } from "./wait.ts";

const BLOCK = 256;

interface LinesAnswer {
  readonly from: number;
  readonly total: number;
  readonly ended: boolean;
  readonly lines: readonly string[];
}

export interface ViewerOptions {
  /** Address of the farm's pages, without a slash at the end. */
  readonly http: string;
  /** `/b/12/test` */
  readonly base: string;
  readonly topic: string;
  readonly signal: AbortSignal;
  /** Told of every line that has a time in it, once: how old it was when it got here. */
  readonly seen: (ageMs: number) => void;
}

export class Viewer implements Disposable {
  /** Settles when the log has ended and all of it was seen. */
  readonly ended: Promise<void>;
  readonly #options: ViewerOptions;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #end: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #events: ClientRequest | undefined;
  /** Lines before this one (from 1) were seen whole. */
  #next = 1;
  #busy = false;
  #again = false;

  constructor(options: ViewerOptions) {
    this.#options = options;
    this.ended = this.#end.promise;
    this.ended.catch(() => {}); // heard of by whoever waits
  }

  /** Resolves once the page listens. */
  async open(): Promise<void> {
    const { http, topic, signal } = this.#options;
    await new Promise<void>((resolve, reject) => {
      const url = `${http}/events?${new URLSearchParams({ t: topic })}`;
      this.#events = get(url, { agent: false, signal, headers: { accept: "text/event-stream" } }, (response) => {
        if (response.statusCode !== 200) {
          reject(new Error(`Cannot listen at ${url}: it answers ${response.statusCode}`));
          return;
        }
        response.setEncoding("utf8").on("data", (text: string) => {
          if (text.includes("event: change") || text.includes("event:change")) this.#look();
        });
        response.once("error", () => {}); // our own hanging up
        resolve();
      });
      this.#events.once("error", reject);
    });
    this.#look();
  }

  [Symbol.dispose](): void {
    this.#events?.destroy();
    this.#agent.destroy();
  }

  #look(): void {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    this.#again = false;
    this.#ask().then(
      () => {
        this.#busy = false;
        if (this.#again) this.#look();
      },
      (error) => this.#end.reject(error),
    );
  }

  async #ask(): Promise<void> {
    const { http, base, signal, seen } = this.#options;
    const from = Math.floor((this.#next - 1) / BLOCK) * BLOCK + 1;
    const url = `${http}${base}/lines?from=${from}&count=${BLOCK}`;
    const answer = await new Promise<LinesAnswer>((resolve, reject) => {
      const headers = { accept: "application/json", "accept-encoding": "gzip" };
      const call = get(url, { agent: this.#agent, signal, headers }, (response) =>
        read(response).then(resolve, reject),
      );
      call.once("error", reject);
    });
    const now = wallMs();
    for (const line of answer.lines.slice(this.#next - from)) {
      const stamp = /^@ (\d+)[.,](\d{6}) @$/.exec(line.trim());
      if (stamp) seen(now - Number(stamp[1]) * 1000 - Number(stamp[2]) / 1000);
      this.#next++;
    }
    if (answer.total >= this.#next)
      this.#again = true; // more than a block at once
    else if (answer.ended) this.#end.resolve();
  }
}

async function read(response: IncomingMessage): Promise<LinesAnswer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const text = (response.headers["content-encoding"] === "gzip" ? gunzipSync(bytes) : bytes).toString();
  if (response.statusCode !== 200) throw new Error(`Cannot read lines: the answer is ${response.statusCode}: ${text}`);
  return JSON.parse(text) as LinesAnswer;
}
