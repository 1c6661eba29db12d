/**
 * Unpacked chunks that were read lately, so that many readers of one log unpack each chunk once.
 *
 * The cache holds at most `limitBytes`. A chunk that two readers ask for at the same time is loaded once. A reader that
 * still holds a chunk keeps it alive by itself: the cache never waits for readers.
 */
export class ChunkCache {
  readonly #limitBytes: number;
  /** The chunks, in the order of their last use. */
  readonly #chunks = new Map<string, Promise<Buffer>>();
  readonly #sizes = new Map<string, number>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The chunk `key`, which is `size` bytes, from memory or from `load`. */
  get(key: string, size: number, load: () => Promise<Buffer>): Promise<Buffer> {
    const known = this.#chunks.get(key);
    if (known) {
      this.#chunks.delete(key);
      this.#chunks.set(key, known);
      return known;
    }
    const loading = load();
    this.put(key, size, loading);
    loading.catch(() => this.#drop(key)); // the next reader tries again; this one receives the error
    return loading;
  }

  put(key: string, size: number, chunk: Promise<Buffer>): void {
    this.#drop(key);
    this.#chunks.set(key, chunk);
    this.#sizes.set(key, size);
    this.#bytes += size;
    for (const oldest of this.#chunks.keys()) {
      if (this.#bytes <= this.#limitBytes) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    if (!this.#chunks.delete(key)) return;
    this.#bytes -= this.#sizes.get(key) ?? 0;
    this.#sizes.delete(key);
  }
}
