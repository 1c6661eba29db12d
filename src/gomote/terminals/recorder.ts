/**
 * What a shell in a browser printed, as an asciicast (version 2), so that its borrower and the owner of its machine can
 * look at it again.
 *
 *   {"version": 2, "width": 80, "height": 24, "timestamp": 1796000000}      the first line
 *   [1.204, "o", "$ ls\r\n"]                                                seconds since the beginning; printed
 *   [3.5, "r", "120x40"]                                                    the window changed its size
 *
 * Only what was printed is kept, never what was typed: a password that a program does not show is in no recording. A
 * recording holds MOST bytes, and says where it stops.
 *
 * Lines are gathered for WRITE_EVERY and written compressed. While the database is away they wait, up to MOST_WAITING
 * bytes of all recordings. Output beyond that is lost, and each recording says where something is missing.
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
/** Bytes of all recordings together that may wait to be written. */
export const MOST_WAITING: number = 64 * 1024 * 1024;
export const WRITE_EVERY: Ms = seconds(2);

const squeeze = promisify(gzip);

export interface RecorderDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly waiting: Waiting;
}

/** Bytes that wait to be written, of all recordings of a coordinator. */
export interface Waiting {
  bytes: number;
}

export class Recorder implements AsyncDisposable {
  /** The number of the shell among the commands of its instance. */
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
  /** Whether something that was printed since the last line is lost. */
  #gap = false;
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

  /**
   * Ends the recording, once what waits is written. A shell's line may still print a little after it was closed, which
   * is not recorded.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  #event(kind: "o" | "r", data: string): void {
    if (this.#full || this.#stop.signal.aborted) return;
    const line = this.#line(kind, data);
    if (this.#deps.waiting.bytes + line.length > MOST_WAITING) {
      this.#gap = true;
      return;
    }
    this.#tellGap();
    this.#add(line);
    if (this.#bytes < MOST) return;
    this.#full = true;
    this.#say("The recording stops here: it is as long as one may be.");
  }

  #tellGap(): void {
    if (this.#gap) this.#say("Something is missing here: the farm could not keep it.");
    this.#gap = false;
  }

  #say(sentence: string): void {
    this.#add(this.#line("o", `\r\n\u001b[0m# ${sentence}\r\n`));
  }

  #line(kind: "o" | "r", data: string): string {
    const at = Number(((this.#deps.clock.monotonic() - this.#began) / 1000).toFixed(3));
    return `${JSON.stringify([at, kind, data])}\n`;
  }

  #add(line: string): void {
    this.#lines += line;
    this.#bytes += line.length;
    this.#deps.waiting.bytes += line.length;
  }

  #written(bytes: number): void {
    this.#lines = this.#lines.slice(bytes);
    this.#deps.waiting.bytes -= bytes;
  }

  async #write(): Promise<void> {
    const { clock, sql, log } = this.#deps;
    for (let stopped = false; !stopped; ) {
      await clock.sleep(WRITE_EVERY, this.#stop.signal).catch(() => {});
      stopped = this.#stop.signal.aborted;
      if (stopped) this.#tellGap();
      const lines = this.#lines;
      if (lines === "") continue;
      try {
        await recordingPart(sql, this.command, this.#part, await squeeze(lines), lines.length);
        this.#part++;
        this.#written(lines.length);
      } catch (error) {
        log.warn({ command: this.command, error: messageOf(error) }, "Could not keep a part of a recording");
      }
    }
    this.#written(this.#lines.length); // what could not be written is lost
  }
}
