/**
 * The output of one command on disk, as far back as a client may still ask for it: a file that is written round and
 * round.
 *
 * The file is in the system's temporary folder, not in the work dir, which builds empty. Only its owner may read it.
 * Its name is deleted as soon as it is open, so nothing is left behind however this program ends. It grows to
 * SPOOL_LIMIT and no further. Offsets are bytes of the output. When the disk takes no more, the command goes on but
 * nothing more is kept: then nothing can be read again.
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SPOOL_LIMIT: number = 128 * 1024 * 1024;

export class Spool implements Disposable {
  readonly #limit: number;
  #fd: number | undefined;
  /** The output is kept from here to #end, which is exclusive. */
  #from = 0;
  #end = 0;
  #broken = false;

  constructor(limit: number = SPOOL_LIMIT) {
    this.#limit = limit;
  }

  get from(): number {
    return this.#from;
  }

  get end(): number {
    return this.#end;
  }

  /** How many more bytes can be appended before something that is kept is overwritten. */
  get room(): number {
    return this.#limit - (this.#end - this.#from);
  }

  /** Notes that nobody will ask for output before `at`. */
  forget(at: number): void {
    this.#from = Math.max(this.#from, Math.min(at, this.#end));
  }

  /** Appends `chunk`. Where there is no room it overwrites the oldest output. */
  append(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; ) {
      const place = this.#end % this.#limit;
      const part = rest.subarray(0, this.#limit - place);
      this.#write(part, place);
      this.#end += part.length;
      this.#from = this.#broken ? this.#end : Math.max(this.#from, this.#end - this.#limit);
      rest = rest.subarray(part.length);
    }
  }

  /** At most `most` bytes from `at` on. Output at `at` must still be kept. */
  read(at: number, most: number): Buffer {
    const place = at % this.#limit;
    const chunk = Buffer.allocUnsafe(Math.min(most, this.#end - at, this.#limit - place));
    return chunk.subarray(0, this.#fd === undefined ? 0 : readSync(this.#fd, chunk, 0, chunk.length, place));
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#from = this.#end;
  }

  #write(part: Buffer, place: number): void {
    try {
      this.#fd ??= openNameless();
      for (let done = 0; done < part.length; ) {
        done += writeSync(this.#fd, part, done, part.length - done, place + done);
      }
    } catch {
      this.#broken = true;
    }
  }
}

function openNameless(): number {
  const path = join(tmpdir(), `buildlet-output-${randomBytes(8).toString("hex")}`);
  const fd = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  return fd;
}
