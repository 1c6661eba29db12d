/**
 * Blobs that can be made again, kept while there is room. Those that were unused for longest are deleted first.
 *
 * Each blob is made once, however many callers ask for it at the same time. Its digest is the end of its key, so blobs
 * that are found in the folder after a restart are known without being read. One cache owns all keys that begin with
 * its prefix.
 */
import { Readable } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import type { Blobs, Written } from "./blobs.ts";

/** A blob that is no larger is read at once: to open, end and close a stream would take longer than to read it. */
const SMALL = 64 * 1024;

export interface Cached {
  /**
   * Reads the bytes from the beginning, as often as wanted. While they are being made they come as they are made. Fails
   * as `make` does.
   */
  open(): Promise<Readable>;
  /** Resolves with size and digest, when all bytes are there. */
  readonly written: Promise<Written>;
}

export interface BlobCacheOptions {
  readonly blobs: Blobs;
  readonly prefix: string;
  /** How many bytes all blobs together may take. The newest blob stays even if it is larger than that. */
  readonly maxBytes: number;
  readonly clock: Clock;
}

export class BlobCache {
  readonly #options: BlobCacheOptions;
  /** Names -> blobs, the least recently used first. */
  readonly #known = new Map<string, Written>();
  readonly #making = new Map<string, Cached & { readonly begun: Promise<void> }>();
  #bytes = 0;
  /** The blob that was touched in the folder last. While it is used again and again, the order there stays right. */
  #newest: string | undefined;

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

  /** How many bytes are kept at present. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * The blob `name`, made by `make` if there is none. Resolves when there is something of it to read. Callers that ask
   * meanwhile get the same blob, or the same failure.
   */
  async get(name: string, make: () => AsyncIterable<Uint8Array>): Promise<Cached> {
    const known = this.#known.get(name);
    if (known) {
      this.#remember(name, known);
      if (name !== this.#newest) await this.#touch(name, known);
      const there = await this.#options.blobs.stat(this.#key(name, known.digest));
      if (there) return { open: () => this.#open(name, known), written: Promise.resolve(known) };
      this.#forget(name); // somebody tidied the folder by hand
    }
    const making = this.#making.get(name) ?? this.#make(name, make);
    await making.begun;
    return making;
  }

  #make(name: string, make: () => AsyncIterable<Uint8Array>): Cached & { readonly begun: Promise<void> } {
    const { growing, written } = this.#options.blobs.begin(({ digest }) => this.#key(name, digest), make());
    const kept = written.then((whole) => this.#keep(name, whole)).finally(() => this.#making.delete(name));
    kept.catch(() => {}); // its callers receive the failure, by `begun`, by the stream, or here
    const open = (): Promise<Readable> => growing.open().catch(async () => this.#open(name, await kept));
    const making = { open, written: kept, begun: growing.begun() };
    this.#making.set(name, making);
    return making;
  }

  async #keep(name: string, written: Written): Promise<Written> {
    this.#remember(name, written);
    await this.#touch(name, written); // all ages by one clock, whatever the file system thinks
    await this.#makeRoom();
    return written;
  }

  async #open(name: string, { bytes, digest }: Written): Promise<Readable> {
    const { blobs } = this.#options;
    const key = this.#key(name, digest);
    return bytes > SMALL ? await blobs.get(key) : Readable.from([await blobs.whole(key)], { objectMode: false });
  }

  async #touch(name: string, { digest }: Written): Promise<void> {
    const { blobs, clock } = this.#options;
    this.#newest = name;
    await blobs.touch(this.#key(name, digest), clock.now()).catch(() => {}); // its age is only a hint
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
