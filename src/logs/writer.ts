/**
 * The one writer of a log: bytes in, packed chunks into the database, in order.
 *
 *   pending -cut-> packing (another thread) -> storing (one at a time) -> stored, readers are told
 *
 * A chunk is cut FLUSH_AFTER its first byte came, or when CHUNK bytes are there, whichever is first. While two chunks
 * are on their way only the second rule counts, so a slow database gets fewer and larger chunks. At most HIGH_WATER
 * bytes are between `write` and the database, and one caller's chunk. Above that `write` resolves late, so that its
 * caller stops reading from the machine.
 *
 * The writer begins where the log ends, which is not at 0 when there was a writer before. Bytes over `limit` are
 * counted and dropped, and the log says so in a line of its own. An error while storing ends the writer: every later
 * call rejects with it.
 */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, ms } from "../farm/ids.ts";
import { APPEND_AT_ONCE, type LogEnd, type NewChunk, type OpenLog } from "../store/logs.ts";
import { countLines, pack } from "./chunk.ts";

export const FLUSH_AFTER: Ms = ms(25);
export const CHUNK: number = 1024 * 1024;
export const HIGH_WATER: number = 4 * CHUNK;
const ON_THEIR_WAY = 2;
const READY: Promise<void> = Promise.resolve();

export interface LogWriter {
  /**
   * Writes `chunk`, which must not be changed afterwards. Resolves when the caller may go on, so that memory stays
   * bounded.
   */
  write(chunk: Buffer): Promise<void>;
  /** The offset of the byte that it wants next. It is beyond any output once the limit is reached. */
  readonly next: number;
  /** Stores the rest and the end in a transaction of its own. */
  close(): Promise<void>;
  /** Stores the rest and leaves the log open, for the next writer. */
  leave(): Promise<void>;
  /** Stores all but the last bytes. Returns these, to be stored together with something else. */
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
  /** Resolves when the chunks are stored, rejects when they never will be. */
  readonly append: (chunks: readonly NewChunk[]) => Promise<void>;
  readonly end: (end: LogEnd) => Promise<void>;
  /** Called when `raw` was stored at `at`. `ended`: it was the last. */
  readonly stored: (at: number, raw: Buffer, ended: boolean) => void;
  /** Called when this writer will store nothing more, since storing failed. */
  readonly gone: () => void;
}

/** A chunk that was cut and is not stored yet. */
interface Cut {
  readonly raw: Buffer;
  readonly packing: Promise<void>;
  /** The packed bytes, once they are there. */
  chunk: NewChunk | undefined;
}

export class ChunkedWriter implements LogWriter {
  readonly #log: OpenLog;
  readonly #limit: number;
  readonly #deps: WriterDeps;
  readonly #stop = new AbortController();
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** How many bytes were cut and are not stored yet; `#underWay`: their chunks. */
  #underWayBytes = 0;
  readonly #underWay: Cut[] = [];
  #waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  #armed = false;
  /** FLUSH_AFTER has passed: the next chunk is cut as soon as fewer are on their way. */
  #overdue = false;
  /** Settles when everything cut so far is stored; never rejects. */
  #storing: Promise<void> = READY;
  #isStoring = false;
  #failure: { readonly error: unknown } | undefined;
  #closed = false;
  /** How many bytes were taken from the caller, without those that were dropped. */
  #length: number;
  /** The offset at which the next chunk begins. */
  #at: number;
  #lines: number;
  /** The limit is reached. */
  #over: boolean;
  #dropped = 0;

  constructor(log: OpenLog, limit: number, deps: WriterDeps) {
    this.#log = log;
    this.#limit = limit;
    this.#deps = deps;
    this.#length = log.length;
    this.#at = log.length;
    this.#lines = log.lines;
    this.#over = log.length > limit;
  }

  get next(): number {
    return this.#over ? Number.MAX_SAFE_INTEGER : this.#length;
  }

  write(chunk: Buffer): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.error);
    if (this.#closed)
      return Promise.reject(new FarmError("conflict", `Cannot write to log ${this.#log.id}: it was closed`));
    this.#take(chunk);
    if (this.#underWayBytes + this.#pendingBytes < HIGH_WATER) return READY;
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async close(): Promise<void> {
    const sealed = await this.seal();
    await sealed.store();
  }

  async leave(): Promise<void> {
    this.#closed = true;
    this.#stop.abort(ENOUGH);
    this.#cut();
    await this.#storing;
    this.#deps.gone();
    if (this.#failure) throw this.#failure.error;
  }

  async seal(): Promise<SealedLog> {
    if (!this.#closed) {
      this.#closed = true;
      if (this.#dropped > 0) this.#push(Buffer.from(`barnraiser: ${this.#dropped} bytes were dropped\n`));
    }
    this.#stop.abort(ENOUGH);
    const raw = this.#takePending();
    const at = this.#at;
    const line = this.#lines;
    this.#at += raw.length;
    this.#lines += countLines(raw);
    const [packed] = await Promise.all([pack(raw), this.#storing]);
    if (this.#failure) throw this.#failure.error;
    const end: LogEnd = {
      id: this.#log.id,
      epoch: this.#log.epoch,
      chunk: raw.length === 0 ? undefined : { at, line, length: raw.length, ...packed },
      length: this.#length,
      lines: this.#lines,
      truncated: this.#over,
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
    if (!this.#over && chunk.length <= room) {
      this.#push(chunk);
      return;
    }
    if (!this.#over) {
      this.#over = true;
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
        if (this.#underWay.length < ON_THEIR_WAY) this.#cut();
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
    this.#underWayBytes += raw.length;
    const packing = pack(raw).then((packed) => {
      cut.chunk = { at, line, length: raw.length, newLines, ...packed };
    });
    packing.catch(() => {}); // #store receives the failure, in order
    const cut: Cut = { raw, packing, chunk: undefined };
    this.#underWay.push(cut);
    if (!this.#isStoring) this.#storing = this.#store();
  }

  /** Stores what was cut, in order, as many at once as are packed by then. Never rejects. */
  async #store(): Promise<void> {
    this.#isStoring = true;
    for (let first = this.#underWay[0]; first !== undefined && !this.#failure; first = this.#underWay[0]) {
      try {
        await first.packing;
        const chunks: NewChunk[] = [];
        for (const { chunk } of this.#underWay.slice(0, APPEND_AT_ONCE)) {
          if (chunk === undefined) break;
          chunks.push(chunk);
        }
        await this.#deps.append(chunks);
        for (const { at } of chunks) {
          const raw = this.#underWay.shift()?.raw ?? Buffer.alloc(0);
          this.#underWayBytes -= raw.length;
          this.#deps.stored(at, raw, false);
        }
      } catch (error) {
        this.#failure ??= { error };
        this.#deps.gone();
      }
      if (this.#overdue && !this.#closed) this.#cut();
      this.#letGo();
    }
    this.#isStoring = false;
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
