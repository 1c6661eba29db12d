/**
 * The configuration in force, and the file that it comes from.
 *
 * A file is a TypeScript module, so every reading imports it again, with the modules beside it. A reading may fail, or
 * its farm may break a rule or be refused. Then the old farm stays in force, and `problem` says what is wrong until a
 * reading succeeds. A change is noticed by watching the folder (editors replace files), and on SIGHUP.
 */
import { type FSWatcher, watch } from "node:fs";
import { stat } from "node:fs/promises";
import { registerHooks } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { checkFarm } from "../config/check.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { FarmInput } from "../config/input.ts";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { ms, seconds } from "../farm/ids.ts";
import type { Banner } from "../ui/data.ts";

/** How long a change waits for the next: an editor writes a file in several steps, and the last one counts. */
const SETTLE = ms(100);
/**
 * How long a reading may take. A configuration is data: one that takes longer waits for something that it should not.
 */
const LOAD_LIMIT = seconds(10);

/** Where a configuration comes from: a file to watch, or a farm made from flags. */
export type ConfigOrigin = { readonly file: string } | { readonly farm: FarmInput };

/** The module that `import ... from "barnraiser"` means: the program's own build, wherever the configuration is. */
const PACKAGE = new URL("./farm-config.js", import.meta.url).href;

let reading = 0;
let hooked = false;
/** Numbers of readings -> the files beside the configuration that each imported. */
const imported = new Map<string, Set<string>>();

function hookImports(): void {
  if (hooked) return;
  hooked = true;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "barnraiser") return { url: PACKAGE, shortCircuit: true };
      const found = next(specifier, context);
      // Modules beside a configuration are imported again with it.
      const fresh = /[?]farm=\d+$/.exec(context.parentURL ?? "")?.[0];
      if (!fresh || !/^[.]{1,2}[/]/.test(specifier)) return found;
      imported.get(fresh)?.add(fileURLToPath(found.url));
      return { ...found, url: found.url + fresh };
    },
  });
}

interface Reading {
  readonly farm: FarmConfig;
  /** The files that it was read from. When one of them changes, it is read again. */
  readonly files: readonly string[];
}

/** Reads and checks a farm. Throws FarmError `bad-request` with every mistake, one per line. */
export async function readFarm(origin: ConfigOrigin, clock: Clock, signal?: AbortSignal): Promise<FarmConfig> {
  return (await read(origin, clock, signal)).farm;
}

async function read(origin: ConfigOrigin, clock: Clock, signal?: AbortSignal): Promise<Reading> {
  if ("farm" in origin) return { farm: checkFarm(origin.farm), files: [] };
  hookImports();
  const file = resolve(origin.file);
  if (!(await stat(file).catch(() => undefined))?.isFile()) {
    throw new FarmError("bad-request", `Cannot load ${file}: there is no such file. Give one with -config`);
  }
  const fresh = `?farm=${++reading}`;
  const files = new Set([file]);
  imported.set(fresh, files);
  const done = new AbortController();
  const stop = signal ? AbortSignal.any([done.signal, signal]) : done.signal;
  let module: { default?: unknown };
  try {
    // An import cannot be canceled, and its top level may wait for ever.
    const late = clock.sleep(LOAD_LIMIT, stop).then(() => {
      throw new Error(`it has not finished loading after ${LOAD_LIMIT / 1000} s; does it wait for something?`);
    });
    module = await Promise.race([import(`${pathToFileURL(file).href}${fresh}`), late]);
  } catch (error) {
    signal?.throwIfAborted();
    throw new FarmError("bad-request", `Cannot load ${file}: ${placed(error)}`, { cause: error });
  } finally {
    done.abort();
    imported.delete(fresh);
  }
  if (module.default === undefined) {
    throw new FarmError(
      "bad-request",
      `Cannot use ${file}: it has no default export. End it with: export default defineFarm({ ... })`,
    );
  }
  try {
    return { farm: checkFarm(module.default), files: [...files] };
  } catch (error) {
    throw new FarmError("bad-request", `Cannot use ${file}:\n${messageOf(error)}`, { cause: error });
  }
}

/** What an author needs to know of a failed import: the message, and the place in their file if there is one. */
function placed(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  // A mistake of syntax stands as `FILE:LINE` in the first line, any other mistake in the frames below.
  const place = /^(\/[^\n]*?)(?:\?farm=\d+)?:(\d+)\n/.exec(stack) ?? /file:\/\/(\S+?)\?farm=\d+:(\d+:\d+)/.exec(stack);
  return place ? `${messageOf(error)} (${place[1]}:${place[2]})` : messageOf(error);
}

export class LiveConfig implements AsyncDisposable {
  readonly #origin: ConfigOrigin;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #accept: (farm: FarmConfig) => Promise<void>;
  readonly #stop = new AbortController();
  #act: (farm: FarmConfig) => Promise<void> = async () => {};
  #current: FarmConfig;
  #problem: string | undefined;
  /** Folders -> their watchers. Editors replace files, so folders are watched, not files. */
  readonly #watchers = new Map<string, FSWatcher>();
  #files: readonly string[];
  #reload: Promise<void> | undefined;
  #again = false;

  private constructor(options: LiveConfigOptions, first: Reading) {
    this.#origin = options.origin;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#accept = options.accept;
    this.#current = first.farm;
    this.#files = first.files;
  }

  /** Reads the configuration, which must be right the first time, and watches it from then on. */
  static async open(options: LiveConfigOptions): Promise<LiveConfig> {
    const live = new LiveConfig(options, await read(options.origin, options.clock));
    await options.accept(live.#current);
    live.#watch();
    return live;
  }

  /**
   * Calls `act` now, and after each change, to bring the rest of the farm in step with the configuration. It must not
   * throw.
   */
  follow(act: (farm: FarmConfig) => Promise<void>): Promise<void> {
    this.#act = act;
    return act(this.#current);
  }

  /** The folder to which paths in the configuration are relative. */
  get base(): string {
    return "file" in this.#origin ? dirname(resolve(this.#origin.file)) : process.cwd();
  }

  get current(): FarmConfig {
    return this.#current;
  }

  /** Why the present content of the file is not in force; undefined: it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  banners(): readonly Banner[] {
    if (this.#problem === undefined) return [];
    // The first line says how many mistakes there are, the rest which.
    const [first = "", ...rest] = this.#problem.split("\n");
    const summary = `${first.replace(/[:.]$/, "")}; the old one stays in force`;
    return [{ summary, detail: rest.join("\n") }];
  }

  /** Reads the file again. Resolves when its newest content is in force or refused. */
  reload(): Promise<void> {
    this.#again = true;
    this.#reload ??= this.#reloadUntilSettled().finally(() => {
      this.#reload = undefined;
    });
    return this.#reload;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const watcher of this.#watchers.values()) watcher.close();
    await this.#reload;
  }

  async #reloadUntilSettled(): Promise<void> {
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false;
      await this.#clock.sleep(SETTLE, this.#stop.signal).catch(() => {});
      if (this.#again) continue;
      try {
        const { farm, files } = await read(this.#origin, this.#clock, this.#stop.signal);
        await this.#accept(farm);
        this.#files = files;
        this.#watch();
        this.#current = farm;
        this.#problem = undefined;
        await this.#act(farm);
        this.#log.info({}, "Took up the changed configuration");
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#problem = messageOf(error);
        this.#log.error({ problem: this.#problem }, "Kept the old configuration: the changed one cannot be used");
      }
    }
  }

  #watch(): void {
    for (const folder of new Set(this.#files.map((file) => dirname(file)))) {
      if (this.#watchers.has(folder)) continue;
      const watcher = watch(folder, (_event, name) => {
        if (name === null || this.#files.includes(join(folder, name))) void this.reload();
      });
      watcher.on("error", (error) =>
        this.#log.warn({ error: messageOf(error) }, "Cannot watch the configuration; send SIGHUP after a change"),
      );
      this.#watchers.set(folder, watcher);
    }
  }
}

export interface LiveConfigOptions {
  readonly origin: ConfigOrigin;
  readonly clock: Clock;
  readonly log: Log;
  /** Called before a farm comes into force. When it throws, the old one stays. */
  readonly accept: (farm: FarmConfig) => Promise<void>;
}
