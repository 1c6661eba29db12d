/**
 * What a shell in a browser printed, as an asciicast (version 2), so that its borrower and the owner of its machine can look at it again.
 *
 *   {"version": 2, "width": 80, "height": 24, "timestamp": 1796000000}      the first line
 *   [1.204, "o", "$ ls\r\n"]                                                  seconds since the beginning; printed
 *   [3.5, "r", "120x40"]                                                      the window changed its size
 *
 * Only what was printed is kept, never what was typed: a password that a program does not show is in nobody's recording. A recording holds MOST
 * bytes, and says where it stops. Lines are gathered for WRITE_EVERY and written compressed; when the database is away, up to MOST wait.
 */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { recordingBegan, recordingPart } from "../../store/recordings.ts";
import type { Sql } from "../../store/sql.ts";
import type { Size } from "../../wire/gomote/terminal-message.ts";

export const MOST: number = 8 * 1024 * 1024;
export const WRITE_EVERY: Ms = seconds(2);

const squeeze = promisify(gzip);

export interface RecorderDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
}

export class Recorder implements AsyncDisposable {
  /** The shell among the commands of its instance. */
  readonly command: number;
  readonly #deps: RecorderDeps;
  readonly #began: number;
  readonly #decoder = new TextDecoder();
  readonly #stop = new AbortController();
  readonly #writing: Promise<void>;
  #lines = "";
  #bytes = 0;
  #part = 0;
  #full = false;
  #size: Size;

  private constructor(deps: RecorderDeps, command: number, size: Size) {
    this.#deps = deps;
    this.command = command;
    this.#began = deps.clock.monotonic();
    this.#size = size;
    this.#writing = this.#write();
  }

  static async begin(deps: RecorderDeps, command: number, size: Size): Promise<Recorder> {
    const now = deps.clock.now();
    await recordingBegan(deps.sql, command);
    const recorder = new Recorder(deps, command, size);
    const { columns: width, rows: height } = size;
    recorder.#add(`${JSON.stringify({ version: 2, width, height, timestamp: Math.floor(now / 1000) })}\n`);
    return recorder;
  }

  printed(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text !== "") this.#event("o", text);
  }

  resized(size: Size): void {
    if (size.columns === this.#size.columns && size.rows === this.#size.rows) return;
    this.#size = size;
    this.#event("r", `${size.columns}x${size.rows}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  #event(kind: "o" | "r", data: string): void {
    const at = Number(((this.#deps.clock.monotonic() - this.#began) / 1000).toFixed(3));
    this.#add(`${JSON.stringify([at, kind, data])}\n`);
    if (this.#bytes < MOST || this.#full) return;
    this.#full = true;
    this.#lines += `${JSON.stringify([at, "o", "\r\n\u001b[0m# The recording stops here: it is as long as one may be.\r\n"])}\n`;
  }

  #add(line: string): void {
    if (this.#full) return;
    this.#lines += line;
    this.#bytes += line.length;
  }

  async #write(): Promise<void> {
    const { clock, sql, log } = this.#deps;
    for (let stopped = false; !stopped; ) {
      await clock.sleep(WRITE_EVERY, this.#stop.signal).catch(() => {});
      stopped = this.#stop.signal.aborted;
      const lines = this.#lines;
      if (lines === "") continue;
      try {
        await recordingPart(sql, this.command, this.#part, await squeeze(lines), lines.length);
        this.#part++;
        this.#lines = this.#lines.slice(lines.length);
      } catch (error) {
        log.warn({ command: this.command, error: messageOf(error) }, "Could not keep a part of a recording");
      }
    }
  }
}
