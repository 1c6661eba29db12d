/** The targets of links that this computer pushed, which listings do not show: a small file per instance and folder. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

export class SentLinks {
  readonly #path: string;

  constructor(cacheFolder: string, server: string, instance: string, folder: string) {
    const key = createHash("sha1")
      .update(JSON.stringify([server, instance, folder]))
      .digest("hex");
    this.#path = join(cacheFolder, "links", `${key}.json`);
  }

  /** The targets by the names of the links. */
  async read(): Promise<ReadonlyMap<string, string>> {
    try {
      return new Map(Object.entries(JSON.parse(await readFile(this.#path, "utf8")) as Record<string, string>));
    } catch {
      return new Map(); // it is only a cache
    }
  }

  async write(links: ReadonlyMap<string, string>): Promise<void> {
    if (links.size === 0) return await rm(this.#path, { force: true });
    await mkdir(join(this.#path, ".."), { recursive: true, mode: 0o700 });
    await writeFile(`${this.#path}.${process.pid}`, JSON.stringify(Object.fromEntries(links)));
    await rename(`${this.#path}.${process.pid}`, this.#path);
  }
}
