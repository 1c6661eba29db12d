/**
 * Pseudo-terminals for an agent that is one file with nothing installed.
 *
 * No script can make one without native code. The package that can (@lydell/node-pty, prebuilt for six platforms) is
 * fetched from the coordinator at the first shell, and checked and kept like the agent itself (stage0/download.ts).
 * Each process unpacks it again: what borrowers run has the agent's own rights, and must not leave code behind that the
 * next agent would load.
 *
 *   unknown -first shell-> here | none     none carries the reason; the next shell asks for the package again
 *
 * Only the part that we use is typed here, since the package that counts is that of the machine's platform, not of the
 * platform on which the agent is built and tested.
 */
import type { IncomingMessage } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { seconds } from "../../farm/ids.ts";
import { TAR_LIMITS } from "../../wire/tar/tar-reader.ts";

/** How long the fetch may take: a person waits for the first shell. */
const FETCH_LIMIT = seconds(20);

export interface Pty {
  readonly pid: number;
  /** The descriptor of the terminal's own side; undefined on Windows. */
  readonly fd?: number;
  /** The stream with which the library reads `fd`. */
  readonly _socket?: { readonly destroyed: boolean; destroy(error?: Error): unknown };
  onData(listener: (data: Buffer | string) => void): unknown;
  onExit(listener: (end: { readonly exitCode: number; readonly signal?: number }) => void): unknown;
  write(data: Buffer | string): void;
  resize(columns: number, rows: number): void;
  pause(): void;
  resume(): void;
}

export interface PtyOptions {
  readonly name: string;
  readonly cols: number;
  readonly rows: number;
  readonly cwd: string;
  readonly env: { readonly [name: string]: string };
  /** Null: bytes as they are. Windows knows only text. */
  readonly encoding: null | "utf8";
}

export interface PtyModule {
  spawn(file: string, args: readonly string[], options: PtyOptions): Pty;
}

export interface PtyPackageDeps {
  readonly clock: Clock;
  readonly log: (line: string) => void;
  /** Fetches a file that the coordinator serves beside the agent. Undefined: there is no coordinator. */
  readonly agentFile:
    | ((name: string, method: "GET" | "HEAD", signal: AbortSignal) => Promise<IncomingMessage>)
    | undefined;
  /** The folder that keeps what was fetched, if it can be made. */
  readonly cacheFolder: string;
}

/** The package, or the reason why there is none. */
export type PtyPackage = { readonly pty: PtyModule } | { readonly missing: string };

export class PtyLoader implements AsyncDisposable {
  readonly #deps: PtyPackageDeps;
  #loading: Promise<PtyPackage> | undefined;
  #folder: string | undefined;

  constructor(deps: PtyPackageDeps) {
    this.#deps = deps;
  }

  async load(): Promise<PtyPackage> {
    this.#loading ??= this.#load().catch((error) => ({ missing: messageOf(error) }));
    const loaded = await this.#loading;
    if ("missing" in loaded) {
      this.#deps.log(`No terminals here: ${loaded.missing}`);
      this.#loading = undefined;
    }
    return loaded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loading;
    const { rm } = await import("node:fs/promises");
    // Windows cannot delete a library that is loaded.
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true }).catch(() => {});
  }

  async #load(): Promise<PtyPackage> {
    const { agentFile, cacheFolder, clock, log } = this.#deps;
    if (!agentFile) return { missing: "there is no coordinator to fetch them from" };
    const [{ download }, { mkdir, mkdtemp }, { createReadStream }, { unpack }] = await Promise.all([
      import("../stage0/download.ts"),
      import("node:fs/promises"),
      import("node:fs"),
      import("../api/unpack.ts"),
    ]);
    const name = `pty-${process.platform}-${process.arch}.tgz`;
    const limit = AbortSignal.timeout(FETCH_LIMIT);
    const get = (method: "GET" | "HEAD") => agentFile(name, method, limit);
    const head = await get("HEAD");
    head.resume();
    if (head.statusCode !== 200) return { missing: `the farm has none for ${process.platform}-${process.arch}` };
    const unpacked = await mkdtemp(join(tmpdir(), "barnraiser-pty-"));
    this.#folder = unpacked;
    const kept = await mkdir(cacheFolder, { recursive: true, mode: 0o700 }).then(
      () => cacheFolder,
      () => unpacked, // its user has no home, so each process fetches the package
    );
    const file = join(kept, name);
    await download(file, { clock, log, get }, head);
    const nowSeconds = () => clock.now() / 1000;
    const options = { platform: process.platform, limits: TAR_LIMITS, nowSeconds, keepLinks: false };
    await unpack(createReadStream(file), unpacked, options);
    const pty: PtyModule = createRequire(join(unpacked, "index.js"))("@lydell/node-pty");
    return { pty };
  }
}
