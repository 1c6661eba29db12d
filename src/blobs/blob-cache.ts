/**
 * Blobs that can be made again, kept while there is room: those unused for longest are deleted first.
 *
 * Each is made once however many ask at the same time. A blob's digest is the end of its key, so that what is found in the folder
 * after a restart is known without being read. One cache owns all keys that begin with its prefix.
 */
import type { Readable } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import type { Blobs, Written } from "./blobs.ts";

export interface Cached extends Written {
  /** The bytes, from the beginning, as often as wanted. */
  open(): Promise<Readable>;
}

export interface BlobCacheOptions {
  readonly blobs: Blobs;
  readonly prefix: string;
  /** What all blobs together may take; the newest stays even if it alone takes more. */
  readonly maxBytes: number;
  readonly clock: Clock;
}

export class BlobCache {
  readonly #options: BlobCacheOptions;
  /** name -> blob, the least recently used first. */
  readonly #known = new Map<string, Written>();
  readonly #making = new Map<string, Promise<Written>>();
  #bytes = 0;

  private constructor(options: BlobCacheOptions) {
    this.#options = options;
  }

  static async open(options: BlobCacheOptions): Promise<BlobCache> {
    const cache = new BlobCache(options);
    const found = await options.blobs.list(options.prefix);
    for (const { key, bytes } of found.toSorted((a, b) => a.usedAt - b.usedAt)) {
      const [, name, digest] = /^(.*)\.([0-9a-f]{64})$/.exec(key.slice(options.prefix.length + 1)) ?? [];
      if (name !== undefined && digest !== undefined) cache.#remember(name, { bytes, digest });
      else await options.blobs.delete(key);
    }
    await cache.#makeRoom();
    return cache;
  }

  /** How much is kept at the moment. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The blob `name`; when there is none, what `make` gives. Whoever asks meanwhile waits for the same one, also for its failure. */
  async get(name: string, make: () => AsyncIterable<Uint8Array>): Promise<Cached> {
    const known = this.#known.get(name);
    if (known) {
      this.#remember(name, known);
      const lost = await this.#touch(name, known);
      if (!lost) return this.#cached(name, known);
      this.#forget(name); // somebody tidied the folder by hand
    }
    let making = this.#making.get(name);
    if (!making) {
      making = this.#make(name, make).finally(() => this.#making.delete(name));
      this.#making.set(name, making);
    }
    return this.#cached(name, await making);
  }

  async #make(name: string, make: () => AsyncIterable<Uint8Array>): Promise<Written> {
    const written = await this.#options.blobs.put(({ digest }) => this.#key(name, digest), make());
    this.#remember(name, written);
    await this.#touch(name, written); // all ages by one clock, whatever the file system thinks
    await this.#makeRoom();
    return written;
  }

  #cached(name: string, { bytes, digest }: Written): Cached {
    return { bytes, digest, open: () => this.#options.blobs.get(this.#key(name, digest)) };
  }

  /** True when the blob is not in the folder any more. */
  async #touch(name: string, { digest }: Written): Promise<boolean> {
    const key = this.#key(name, digest);
    await this.#options.blobs.touch(key, this.#options.clock.now()).catch(() => {}); // its age is only a hint
    return (await this.#options.blobs.stat(key)) === undefined;
  }

  #remember(name: string, written: Written): void {
    this.#forget(name);
    this.#known.set(name, written);
    this.#bytes += written.bytes;
  }

  #forget(name: string): void {
    this.#bytes -= this.#known.get(name)?.bytes ?? 0;
    this.#known.delete(name);
  }

  async #makeRoom(): Promise<void> {
    while (this.#bytes > this.#options.maxBytes && this.#known.size > 1) {
      const [oldest] = this.#known;
      if (!oldest) return;
      const [name, { digest }] = oldest;
      this.#forget(name);
      await this.#options.blobs.delete(this.#key(name, digest));
    }
  }

  #key(name: string, digest: string): string {
    if (name === "") throw new FarmError("bad-request", "Cannot keep a blob without a name");
    return `${this.#options.prefix}/${name}.${digest}`;
  }
}
