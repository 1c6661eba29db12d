/**
 * A file that is being written, for readers that cannot wait until it is whole. They follow the writer, and end or fail
 * with it.
 *
 *   growing  -end-> whole;  growing -fail-> broken
 *
 * Readers read the file, not the writer's memory. So a reader that is slow, or comes late, holds nothing up.
 */
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";

const CHUNK = 256 * 1024;

export class Growing {
  readonly #path: string;
  #written = 0;
  #end: "whole" | { readonly error: unknown } | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(path: string) {
    this.#path = path;
  }

  get path(): string {
    return this.#path;
  }

  /** To be called when so many more bytes are in the file. */
  advance(bytes: number): void {
    this.#written += bytes;
    this.#tell();
  }

  end(): void {
    this.#end = "whole";
    this.#tell();
  }

  fail(error: unknown): void {
    this.#end = { error };
    this.#tell();
  }

  /** Resolves when there is something to read, or nothing to come. Rejects when the writing failed before that. */
  async begun(): Promise<void> {
    while (this.#written === 0 && this.#end === undefined) await this.#changed.promise;
    this.#throwIfBroken();
  }

  /** Reads from the first byte to the last. Rejects as `open` of a file does when the file has been moved away. */
  async open(): Promise<Readable> {
    const file = await open(this.#path);
    let at = 0;
    const next = async (): Promise<Buffer | null> => {
      while (at === this.#written && this.#end === undefined) await this.#changed.promise;
      if (at < this.#written) {
        const { buffer, bytesRead } = await read(file, at, Math.min(CHUNK, this.#written - at));
        at += bytesRead;
        return buffer.subarray(0, bytesRead);
      }
      this.#throwIfBroken();
      return null;
    };
    return new Readable({
      highWaterMark: CHUNK,
      read(): void {
        next().then(
          (chunk) => this.push(chunk),
          (error: Error) => this.destroy(error),
        );
      },
      destroy(error, done): void {
        file.close().then(
          () => done(error),
          () => done(error),
        );
      },
    });
  }

  #throwIfBroken(): void {
    if (typeof this.#end === "object") throw this.#end.error;
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

function read(file: FileHandle, at: number, bytes: number): Promise<{ buffer: Buffer; bytesRead: number }> {
  return file.read(Buffer.allocUnsafe(bytes), 0, bytes, at);
}
