/**
 * A person's browser with a log open, as far as the server can tell: one connection over which the lines come as they are written.
 *
 * Lines hold the time at which they were printed, between two `@`.
 */
import { type ClientRequest, get } from "node:http";
import { wallMs } from "./wait.ts";

interface LinesAnswer {
  readonly from: number;
  readonly ended: boolean;
  readonly open: boolean;
  readonly lines: readonly string[];
}

export interface ViewerOptions {
  /** Address of the farm's pages, without a slash at the end. */
  readonly http: string;
  /** `/b/12/test` */
  readonly base: string;
  readonly signal: AbortSignal;
  /** Told of every line that has a time in it, once: how old it was when it got here. */
  readonly seen: (ageMs: number) => void;
}

export class Viewer implements Disposable {
  /** Settles when the log has ended and all of it was seen. */
  readonly ended: Promise<void>;
  readonly #options: ViewerOptions;
  readonly #end: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #stream: ClientRequest | undefined;
  /** Lines before this one (from 1) were seen whole. */
  #next = 1;
  #text = "";

  constructor(options: ViewerOptions) {
    this.#options = options;
    this.ended = this.#end.promise;
    this.ended.catch(() => {}); // heard of by whoever waits
  }

  /** Resolves once the page follows. */
  async open(): Promise<void> {
    const { http, base, signal } = this.#options;
    await new Promise<void>((resolve, reject) => {
      const url = `${http}${base}/follow?from=1`;
      this.#stream = get(url, { agent: false, signal, headers: { accept: "text/event-stream" } }, (response) => {
        if (response.statusCode !== 200) {
          reject(new Error(`Cannot follow ${url}: it answers ${response.statusCode}`));
          return;
        }
        response.setEncoding("utf8").on("data", (text: string) => this.#read(text));
        response.once("error", () => {}); // our own hanging up
        response.once("end", () => this.#end.reject(new Error("The stream of lines ended before the log")));
        resolve();
      });
      this.#stream.once("error", reject);
    });
  }

  [Symbol.dispose](): void {
    this.#stream?.destroy();
  }

  #read(text: string): void {
    const messages = (this.#text + text).split("\n\n");
    this.#text = messages.pop() ?? "";
    for (const message of messages) {
      const data = /^event: lines\ndata: (.*)$/m.exec(message)?.[1];
      if (data !== undefined) this.#take(JSON.parse(data) as LinesAnswer);
    }
  }

  #take({ from, ended, open, lines }: LinesAnswer): void {
    const now = wallMs();
    const whole = open && !ended ? lines.slice(0, -1) : lines;
    for (const line of whole.slice(Math.max(0, this.#next - from))) {
      const stamp = /^@ (\d+)[.,](\d{6}) @$/.exec(line.trim());
      if (stamp) this.#options.seen(now - Number(stamp[1]) * 1000 - Number(stamp[2]) / 1000);
      this.#next++;
    }
    if (ended) this.#end.resolve();
  }
}
