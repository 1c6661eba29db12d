/**
 * The one writer of a log: bytes in, packed chunks into the database, in order.
 *
 *   pending -cut-> packing (another thread) -> storing (one at a time) -> stored, readers are told
 *
 * A chunk is cut FLUSH_AFTER its first byte came, or when CHUNK bytes are there, whichever is first; while two chunks are on their way
 * only the second counts, so a slow database gets fewer and larger chunks. At most HIGH_WATER bytes are between `write` and the
 * database (and one caller's chunk); over that `write` resolves late, and whoever reads from the machine stops reading.
 *
 * Over `limit` bytes the rest is counted and dropped, and the log says so in a line of its own.
 * An error while storing ends the writer: every later call rejects with it.
 */
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type LogId, type Ms, ms } from "../farm/ids.ts";
import type { LogEnd, StoredChunk } from "../store/logs.ts";
import { countLines, pack } from "./chunk.ts";

export const FLUSH_AFTER: Ms = ms(25);
export const CHUNK: number = 1024 * 1024;
export const HIGH_WATER: number = 4 * CHUNK;
const ON_THEIR_WAY = 2;
const READY: Promise<void> = Promise.resolve();

export interface LogWriter {
  /** Takes `chunk` over; it must not be changed afterwards. Resolves when the caller may go on: bounded memory. */
  write(chunk: Buffer): Promise<void>;
  /** Stores the rest and the end in a transaction of its own. */
  close(): Promise<void>;
  /** Stores all but the last bytes and hands these out, to be stored together with something else. */
  seal(): Promise<SealedLog>;
}

export interface SealedLog {
  readonly end: LogEnd;
  /** To be called after `end` was stored: tells the readers. */
  stored(): void;
  /** Stores `end` by itself. */
  store(): Promise<void>;
}

export interface WriterDeps {
  readonly clock: Clock;
  /** Resolves when the chunk is stored, rejects when it never will be. */
  readonly append: (chunk: StoredChunk, newLines: number) => Promise<void>;
  readonly end: (end: LogEnd) => Promise<void>;
  /** `raw` was stored at `at`; `ended` when it was the last. */
  readonly stored: (at: number, raw: Buffer, ended: boolean) => void;
  /** Nothing more will be stored by this writer, since storing failed. */
  readonly gone: () => void;
}

export class ChunkedWriter implements LogWriter {
  readonly #id: LogId;
  readonly #limit: number;
  readonly #deps: WriterDeps;
  readonly #stop = new AbortController();
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Bytes and chunks cut and not stored yet. */
  #underWayBytes = 0;
  #underWay = 0;
  #waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  #armed = false;
  /** FLUSH_AFTER has passed; cut as soon as one chunk less is on its way. */
  #overdue = false;
  /** Settles when everything cut so far is stored; never rejects. */
  #order: Promise<void> = READY;
  #failure: { readonly error: unknown } | undefined;
  #closed = false;
  /** Taken from the caller, dropped ones not counted. */
  #length = 0;
  /** Where the next chunk begins. */
  #at = 0;
  #lines = 0;
  #dropped = 0;

  constructor(id: LogId, limit: number, deps: WriterDeps) {
    this.#id = id;
    this.#limit = limit;
    this.#deps = deps;
  }

  write(chunk: Buffer): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.error);
    if (this.#closed)
      return Promise.reject(new FarmError("conflict", `Cannot write to log ${this.#id}: it was closed`));
    this.#take(chunk);
    if (this.#underWayBytes + this.#pendingBytes < HIGH_WATER) return READY;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async close(): Promise<void> {
    const sealed = await this.seal();
    await sealed.store();
  }

  async seal(): Promise<SealedLog> {
    if (!this.#closed) {
      this.#closed = true;
      if (this.#dropped > 0) this.#push(Buffer.from(`barnraiser: ${this.#dropped} bytes were dropped\n`));
    }
    this.#stop.abort();
    const raw = this.#takePending();
    const at = this.#at;
    const line = this.#lines;
    this.#at += raw.length;
    this.#lines += countLines(raw);
    const [packed] = await Promise.all([pack(raw), this.#order]);
    if (this.#failure) throw this.#failure.error;
    const end: LogEnd = {
      id: this.#id,
      chunk: raw.length === 0 ? undefined : { at, line, length: raw.length, ...packed },
      length: this.#length,
      lines: this.#lines,
      truncated: this.#dropped > 0,
    };
    return {
      end,
      stored: () => this.#deps.stored(at, raw, true),
      store: async () => {
        await this.#deps.end(end);
        this.#deps.stored(at, raw, true);
      },
    };
  }

  #take(chunk: Buffer): void {
    const room = this.#limit - this.#length;
    if (this.#dropped === 0 && chunk.length <= room) {
      this.#push(chunk);
      return;
    }
    if (this.#dropped === 0) {
      if (room > 0) this.#push(chunk.subarray(0, room));
      this.#push(
        Buffer.from(`\nbarnraiser: the limit of ${this.#limit} bytes is reached; the rest of the output is dropped\n`),
      );
      this.#dropped = chunk.length - Math.max(0, room);
    } else {
      this.#dropped += chunk.length;
    }
  }

  #push(chunk: Buffer): void {
    this.#length += chunk.length;
    for (let rest = chunk; rest.length > 0; ) {
      const part = rest.subarray(0, CHUNK - this.#pendingBytes);
      rest = rest.subarray(part.length);
      this.#pending.push(part);
      this.#pendingBytes += part.length;
      if (this.#pendingBytes === CHUNK) this.#cut();
    }
    if (this.#pendingBytes > 0 && !this.#armed && !this.#closed) this.#arm();
  }

  #arm(): void {
    this.#armed = true;
    this.#deps.clock.sleep(FLUSH_AFTER, this.#stop.signal).then(
      () => {
        this.#armed = false;
        if (this.#underWay < ON_THEIR_WAY) this.#cut();
        else this.#overdue = true;
      },
      () => {}, // sealed
    );
  }

  #takePending(): Buffer {
    const [only] = this.#pending;
    const raw = this.#pending.length === 1 && only ? only : Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    return raw;
  }

  #cut(): void {
    this.#overdue = false;
    const raw = this.#takePending();
    if (raw.length === 0) return;
    const at = this.#at;
    this.#at += raw.length;
    const line = this.#lines;
    const newLines = countLines(raw);
    this.#lines += newLines;
    this.#underWay++;
    this.#underWayBytes += raw.length;
    const packing = pack(raw);
    packing.catch(() => {}); // heard of below, in order
    this.#order = this.#order.then(async () => {
      try {
        const packed = await packing;
        if (this.#failure) return;
        await this.#deps.append({ at, line, length: raw.length, ...packed }, newLines);
        this.#deps.stored(at, raw, false);
      } catch (error) {
        this.#failure ??= { error };
        this.#deps.gone();
      }
      this.#underWay--;
      this.#underWayBytes -= raw.length;
      if (this.#overdue && !this.#closed) this.#cut();
      this.#letGo();
    });
  }

  #letGo(): void {
    if (!this.#failure && this.#underWayBytes + this.#pendingBytes >= HIGH_WATER) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve, reject } of waiting) {
      if (this.#failure) reject(this.#failure.error);
      else resolve();
    }
  }
}
