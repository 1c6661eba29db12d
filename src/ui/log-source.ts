/**
 * Lines of a log as the viewer needs them: asked for in aligned blocks, kept while near, never the whole log.
 *
 * A block is final once all its lines are; the last block is asked for again when the log has grown. Colours begin anew at each block, since
 * nobody can know the colour at line 5,000,000 without reading all before it.
 */
import { ansiState, type Span, spans } from "./ansi.ts";

export const BLOCK = 256;
const KEPT = 64; // blocks

/** Answer of `/b/ID/STEP/lines`; `from` and line numbers count from 1. */
export interface LinesAnswer {
  readonly from: number;
  readonly total: number;
  readonly length: number;
  readonly ended: boolean;
  readonly truncated: boolean;
  readonly lines: readonly string[];
}

interface Block {
  readonly rows: readonly (readonly Span[])[];
  readonly total: number; // of the log, when this was asked for
}

export class LogSource {
  total: number;
  ended: boolean;
  length: number;
  readonly #url: (path: string, query: Readonly<Record<string, string | number>>) => string;
  readonly #changed: () => void;
  readonly #blocks = new Map<number, Block>();
  readonly #asked = new Map<number, Promise<void>>();
  #again = false;
  #refreshing = false;

  constructor(start: { total: number; ended: boolean; length: number }, url: LogSource["url"], changed: () => void) {
    this.total = start.total;
    this.ended = start.ended;
    this.length = start.length;
    this.#url = url;
    this.#changed = changed;
  }

  get url(): (path: string, query: Readonly<Record<string, string | number>>) => string {
    return this.#url;
  }

  /** Line `number` (from 1), or undefined while it is on its way. */
  row(number: number): readonly Span[] | undefined {
    const index = Math.floor((number - 1) / BLOCK);
    const block = this.#blocks.get(index);
    const offset = (number - 1) % BLOCK;
    // The last line of what a block had may have grown since: it is shown as it was until the newer one is here.
    const stale = block !== undefined && block.total < this.total && block.rows.length < BLOCK;
    if (block === undefined || stale) void this.#ask(index);
    return block?.rows[offset];
  }

  /** Looks whether the log has grown: one small question at a time, however much was written meanwhile. */
  async refresh(): Promise<void> {
    this.#again = true;
    if (this.#refreshing) return;
    this.#refreshing = true;
    while (this.#again) {
      const last = Math.max(0, Math.floor((this.total - 1) / BLOCK));
      await this.#asked.get(last); // asked before what we were told of; its answer may be older
      this.#again = false;
      await this.#ask(last);
    }
    this.#refreshing = false;
  }

  #ask(index: number): Promise<void> {
    const asked = this.#asked.get(index);
    if (asked) return asked;
    const asking = this.#fetch(index).finally(() => this.#asked.delete(index));
    this.#asked.set(index, asking);
    return asking;
  }

  async #fetch(index: number): Promise<void> {
    const response = await fetch(this.#url("lines", { from: index * BLOCK + 1, count: BLOCK })).catch(() => undefined);
    if (!response?.ok) return;
    const answer = (await response.json()) as LinesAnswer;
    const state = ansiState();
    this.#blocks.delete(index); // the newest goes to the end, the oldest is forgotten
    this.#blocks.set(index, { rows: answer.lines.map((line) => spans(line, state)), total: answer.total });
    for (const old of this.#blocks.keys()) {
      if (this.#blocks.size <= KEPT) break;
      this.#blocks.delete(old);
    }
    this.total = Math.max(this.total, answer.total);
    this.length = Math.max(this.length, answer.length);
    this.ended ||= answer.ended;
    this.#changed();
  }
}
