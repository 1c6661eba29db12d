/**
 * Logs: one writer, many readers, every byte in order, whatever the bytes are.
 *
 * A command's output is written once, into the database, in packed chunks (writer.ts). Everybody reads it from there:
 * the page of a build that runs, that of a build from last year, and pages of other coordinators. A reader that follows
 * a log wakes when bytes were stored (topic `log:ID`). It takes them from memory if they were stored here a moment ago,
 * and ends when the log has ended. Readers pull, so a slow one delays nobody and holds one chunk.
 *
 * Offsets are bytes from the start of the log and never change: a reader that lost its connection goes on from the byte
 * it has. Lines are counted by LF. Always: bytes that a reader has seen are in the database.
 */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { type LogId, logId, type Ms, seconds } from "../farm/ids.ts";
import {
  appendChunks,
  chunkOfByte,
  chunkOfLine,
  chunkStarts,
  createLog,
  endLog,
  type LogState,
  logState,
  type OpenLog,
  readChunk,
  type StoredChunk,
} from "../store/logs.ts";
import { patiently } from "../store/patience.ts";
import type { Sql } from "../store/sql.ts";
import { afterLine, countLines, unpack } from "./chunk.ts";
import { ChunkCache } from "./chunk-cache.ts";
import { ChunkedWriter, type LogWriter } from "./writer.ts";

/** How many bytes of one step's output are kept. */
const LOG_LIMIT: number = 1024 ** 3;
/** How many bytes of unpacked chunks are kept for readers, for all logs together. */
const CACHE_BYTES: number = 32 * 1024 * 1024;
/** How long a follower waits before it looks by itself, since a word between coordinators may get lost. */
const LOOK_AGAIN: Ms = seconds(5);
const STARTS_AT_ONCE = 64;

export interface LogsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly limitBytes?: number;
  /**
   * Aborts when the coordinator stops. From then on bytes that cannot be stored are left to the machine that has them.
   */
  readonly stopping?: AbortSignal;
}

export class Logs implements AsyncDisposable {
  readonly #deps: LogsDeps;
  readonly #stop = new AbortController();
  readonly #stopping: AbortSignal;
  readonly #cache = new ChunkCache(CACHE_BYTES);
  /** Logs that are written here -> what is stored of them. */
  readonly #written = new Map<LogId, { length: number }>();
  /** Logs -> their followers, which are called when there is something new. */
  readonly #followers = new Map<LogId, Set<() => void>>();

  constructor(deps: LogsDeps) {
    this.#deps = deps;
    this.#stopping = AbortSignal.any([this.#stop.signal, ...(deps.stopping ? [deps.stopping] : [])]);
    deps.bus.subscribe("log:", (topic) => this.#changed(topic), this.#stop.signal);
  }

  create(): Promise<LogId> {
    return createLog(this.#deps.sql);
  }

  /** The writer of a log, which goes on where the log ends. The caller must close, seal or leave it. */
  writer(log: OpenLog): LogWriter {
    const { sql, bus, clock, limitBytes = LOG_LIMIT } = this.#deps;
    const { id } = log;
    const written = { length: log.length };
    this.#written.set(id, written);
    return new ChunkedWriter(log, limitBytes, {
      clock,
      append: async (chunks) => {
        const stored = await this.#patiently(() => appendChunks(sql, log, chunks));
        if (!stored) throw new FarmError("lease-lost", `Cannot add to log ${id}: somebody else ended it or writes it`);
      },
      end: (end) => this.#patiently(() => endLog(sql, end)),
      stored: (at, raw, ended) => {
        if (raw.length > 0 && this.#followers.has(id)) {
          this.#cache.put(`${id}:${at}`, raw.length, Promise.resolve(raw));
        }
        written.length = at + raw.length;
        if (ended && this.#written.get(id) === written) this.#written.delete(id);
        bus.publish(`log:${id}`);
      },
      gone: () => {
        if (this.#written.get(id) === written) this.#written.delete(id);
      },
    });
  }

  /** Throws `not-found`, and `gone` for a log whose bytes were deleted since it was old. */
  async state(id: LogId): Promise<LogState> {
    const state = await logState(this.#deps.sql, id);
    if (!state) throw new FarmError("not-found", `Cannot find log ${id}`);
    if (state.droppedAt !== null) {
      const day = new Date(state.droppedAt).toISOString().slice(0, 10);
      throw new FarmError(
        "gone",
        `This log was deleted on ${day}: it had been kept for as long as the farm keeps logs`,
      );
    }
    return state;
  }

  /** The stored bytes of [from, to), in order. Ends where the log ends now. */
  async *read(id: LogId, from = 0, to: number = Number.MAX_SAFE_INTEGER): AsyncGenerator<Buffer, void, undefined> {
    let at = Math.max(0, from);
    while (at < to) {
      const starts = await chunkStarts(this.#deps.sql, id, at, to, STARTS_AT_ONCE);
      const before = at;
      for (const start of starts) {
        if (start.at + start.length <= at) continue;
        const raw = await this.#chunk(id, start.at, start.length);
        const part = raw.subarray(at - start.at, to - start.at);
        at += part.length;
        if (part.length > 0) yield part;
      }
      if (at === before) return;
    }
  }

  /**
   * The bytes from `from` on, and then all that are added, until the log has ended. Returns early when `signal` aborts.
   */
  async *tail(id: LogId, from: number, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    let news = Promise.withResolvers<void>();
    const wake = () => news.resolve();
    this.#follow(id, wake);
    signal.addEventListener("abort", wake, { once: true });
    try {
      for (let at = Math.max(0, from); !signal.aborted && !this.#stop.signal.aborted; ) {
        news = Promise.withResolvers(); // before looking, so that nothing is missed between looking and waiting
        const { length, ended } = await this.#progress(id);
        for await (const part of this.read(id, at, length)) {
          if (signal.aborted) return;
          yield part;
          at += part.length;
        }
        if (ended) return;
        if (at < length) continue;
        await this.#orLater(news.promise, wake);
      }
    } finally {
      signal.removeEventListener("abort", wake);
      this.#unfollow(id, wake);
    }
  }

  /** Where line `line` begins (1 is the first), or undefined while the log has no such line. */
  async lineStart(id: LogId, line: number): Promise<number | undefined> {
    if (line <= 1) return 0;
    const chunk = await chunkOfLine(this.#deps.sql, id, line - 1);
    if (!chunk) return undefined;
    const stored = await readChunk(this.#deps.sql, id, chunk.at);
    if (!stored) return undefined;
    const after = afterLine(await this.#chunk(id, stored.at, stored.length, stored), line - 1 - chunk.line);
    return after < 0 ? undefined : chunk.at + after;
  }

  /** The number (from 1) of the line that holds the byte at `offset`. */
  async lineOf(id: LogId, offset: number): Promise<number> {
    const chunk = await chunkOfByte(this.#deps.sql, id, offset);
    if (!chunk) return 1;
    const stored = await readChunk(this.#deps.sql, id, chunk.at);
    if (!stored) return 1;
    const raw = await this.#chunk(id, stored.at, stored.length, stored);
    return 1 + chunk.line + countLines(raw.subarray(0, offset - chunk.at));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const followers of this.#followers.values()) for (const wake of followers) wake();
  }

  /** The length and the end of a log, from memory while it is written here. */
  async #progress(id: LogId): Promise<{ length: number; ended: boolean }> {
    const written = this.#written.get(id);
    if (written) return { length: written.length, ended: false };
    return this.state(id);
  }

  #chunk(id: LogId, at: number, length: number, known?: StoredChunk): Promise<Buffer> {
    return this.#cache.get(`${id}:${at}`, length, async () => {
      const chunk = known ?? (await readChunk(this.#deps.sql, id, at));
      if (!chunk) throw new FarmError("internal", `Cannot read log ${id}: the chunk at ${at} is missing`);
      return unpack(chunk);
    });
  }

  #changed(topic: string): void {
    const id = topic.slice("log:".length);
    if (id === "") for (const followers of this.#followers.values()) for (const wake of followers) wake();
    else for (const wake of this.#followers.get(logId(Number(id))) ?? []) wake();
  }

  #follow(id: LogId, wake: () => void): void {
    const followers = this.#followers.get(id) ?? new Set();
    followers.add(wake);
    this.#followers.set(id, followers);
  }

  #unfollow(id: LogId, wake: () => void): void {
    const followers = this.#followers.get(id);
    followers?.delete(wake);
    if (followers?.size === 0) this.#followers.delete(id);
  }

  async #orLater(news: Promise<void>, wake: () => void): Promise<void> {
    const timer = new AbortController();
    this.#deps.clock.sleep(LOOK_AGAIN, timer.signal).then(wake, () => {});
    await news;
    timer.abort(ENOUGH);
  }

  /**
   * Repeats a call while the database is away. Meanwhile the bytes stay here, and the writer holds its machine back.
   */
  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#deps.clock, this.#stopping);
  }
}
