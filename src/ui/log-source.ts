/**
 * Lines of a log for the viewer: asked for in aligned blocks, kept while near, never the whole log.
 *
 * A block is final once all its lines are. New lines of the log are pushed to the browser. They are added to the last
 * block; if they are further on than that, they are asked for once they are in sight. Colours begin again at each
 * block: nobody can know the colour at line 5,000,000 without reading everything before it.
 */
import { ansiState, type Span, spans } from "./ansi.ts";

export const BLOCK = 256;
const KEPT = 64; // blocks

/** An answer of `/b/ID/STEP/lines`, or an event of `/follow`. `from` and line numbers count from 1. */
export interface LinesAnswer {
  readonly from: number;
  readonly total: number;
  readonly length: number;
  readonly ended: boolean;
  readonly truncated: boolean;
  readonly lines: readonly string[];
}

interface Block {
  readonly lines: readonly string[];
  readonly rows: readonly (readonly Span[])[];
  readonly total: number; // lines of the log when this block was asked for
}

export class LogSource {
  total: number;
  ended: boolean;
  length: number;
  readonly #url: (path: string, query: Readonly<Record<string, string | number>>) => string;
  readonly #changed: () => void;
  readonly #blocks = new Map<number, Block>();
  readonly #asked = new Map<number, Promise<void>>();

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

  /** Line `number` (from 1); undefined while it is being asked for. */
  row(number: number): readonly Span[] | undefined {
    const index = Math.floor((number - 1) / BLOCK);
    const block = this.#blocks.get(index);
    const offset = (number - 1) % BLOCK;
    // The last line of a block may have grown. It is shown as it was until the newer one is here.
    const stale = block !== undefined && block.total < this.total && block.rows.length < BLOCK;
    if (block === undefined || stale) void this.#ask(index);
    return block?.rows[offset];
  }

  /** The number of the first line of the last block. */
  get lastBlock(): number {
    return Math.max(0, Math.floor((this.total - 1) / BLOCK)) * BLOCK + 1;
  }

  /** Takes the lines of an answer, which begin at `answer.from`. */
  take(answer: LinesAnswer): "more" | "last" {
    const end = answer.from + answer.lines.length;
    for (let at = answer.from; at < end; ) {
      const index = Math.floor((at - 1) / BLOCK);
      const first = index * BLOCK + 1;
      const next = Math.min(end, first + BLOCK);
      const known = this.#blocks.get(index);
      const before = known?.lines.slice(0, at - first) ?? [];
      // An older answer that arrives late is ignored. Lines after a gap wait until their whole block is asked for.
      if (before.length === at - first && answer.total >= (known?.total ?? 0)) {
        this.#keep(index, [...before, ...answer.lines.slice(at - answer.from, next - answer.from)], answer.total);
      }
      at = next;
    }
    this.total = Math.max(this.total, answer.total);
    this.length = Math.max(this.length, answer.length);
    this.ended ||= answer.ended;
    this.#changed();
    return this.ended ? "last" : "more";
  }

  #keep(index: number, lines: readonly string[], total: number): void {
    const state = ansiState();
    this.#blocks.delete(index); // it is put back at the end; the oldest is forgotten
    this.#blocks.set(index, { lines, rows: lines.map((line) => spans(line, state)), total });
    for (const old of this.#blocks.keys()) {
      if (this.#blocks.size <= KEPT) break;
      this.#blocks.delete(old);
    }
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
    this.take((await response.json()) as LinesAnswer);
  }
}
