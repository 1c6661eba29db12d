/**
 * The configuration in force, and the file that it comes from.
 *
 * A file is a TypeScript module, so every reading of it imports it anew, with the modules beside it. A reading that fails,
 * or a farm that breaks a rule, leaves the old one in force; `problem` then says what is wrong until a reading succeeds.
 * A change is seen by watching the folder (editors replace files), and on SIGHUP.
 */
import { type FSWatcher, watch } from "node:fs";
import { registerHooks } from "node:module";
import { basename, dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { checkFarm } from "../config/check.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { FarmInput } from "../config/input.ts";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { ms } from "../farm/ids.ts";

/** Writing a file takes an editor several steps; the last one counts. */
const SETTLE = ms(100);

/** Where a configuration comes from: a file to watch, or a farm made from flags. */
export type ConfigOrigin = { readonly file: string } | { readonly farm: FarmInput };

/** Where `import ... from "barnraiser"` leads: to the program's own build, wherever the configuration lies. */
const PACKAGE = new URL("./farm-config.js", import.meta.url).href;

let reading = 0;
let hooked = false;

function hookImports(): void {
  if (hooked) return;
  hooked = true;
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "barnraiser") return { url: PACKAGE, shortCircuit: true };
      const found = next(specifier, context);
      // What a configuration imports from beside itself is as fresh as the configuration.
      const fresh = /[?]farm=\d+$/.exec(context.parentURL ?? "")?.[0];
      return fresh && /^[.]{1,2}[/]/.test(specifier) ? { ...found, url: found.url + fresh } : found;
    },
  });
}

/** Reads and checks a farm. Throws FarmError `bad-request` with every mistake, one per line. */
export async function readFarm(origin: ConfigOrigin): Promise<FarmConfig> {
  if ("farm" in origin) return checkFarm(origin.farm);
  hookImports();
  const file = resolve(origin.file);
  let module: { default?: unknown };
  try {
    module = await import(`${pathToFileURL(file).href}?farm=${++reading}`);
  } catch (error) {
    throw new FarmError("bad-request", `Cannot load ${file}: ${firstLines(error)}`, { cause: error });
  }
  if (module.default === undefined) {
    throw new FarmError(
      "bad-request",
      `Cannot use ${file}: it has no default export. End it with: export default defineFarm({ ... })`,
    );
  }
  try {
    return checkFarm(module.default);
  } catch (error) {
    throw new FarmError("bad-request", `Cannot use ${file}:\n${messageOf(error)}`, { cause: error });
  }
}

/** What an author needs of a failed import: the message, and the place in their file where there is one. */
function firstLines(error: unknown): string {
  const place = error instanceof Error ? /\bat .*?file:\/\/(\S+?)\?farm=\d+(:\d+:\d+)/.exec(error.stack ?? "") : null;
  return place ? `${messageOf(error)} (${place[1]}${place[2]})` : messageOf(error);
}

export class LiveConfig implements AsyncDisposable {
  readonly #origin: ConfigOrigin;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #taken: (farm: FarmConfig) => Promise<void>;
  readonly #stop = new AbortController();
  #current: FarmConfig;
  #problem: string | undefined;
  #watcher: FSWatcher | undefined;
  #reload: Promise<void> | undefined;
  #again = false;

  private constructor(options: LiveConfigOptions, first: FarmConfig) {
    this.#origin = options.origin;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#taken = options.taken;
    this.#current = first;
  }

  /** Reads the configuration, which must be right the first time, and from then on follows it. */
  static async open(options: LiveConfigOptions): Promise<LiveConfig> {
    const live = new LiveConfig(options, await readFarm(options.origin));
    await options.taken(live.#current);
    live.#watch();
    return live;
  }

  get current(): FarmConfig {
    return this.#current;
  }

  /** Why the file as it is now is not in force; undefined when it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Takes the file up again; resolves when its newest content is in force or refused. */
  reload(): Promise<void> {
    this.#again = true;
    this.#reload ??= this.#reloadUntilSettled().finally(() => {
      this.#reload = undefined;
    });
    return this.#reload;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#watcher?.close();
    await this.#reload;
  }

  async #reloadUntilSettled(): Promise<void> {
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false;
      await this.#clock.sleep(SETTLE, this.#stop.signal).catch(() => {});
      if (this.#again) continue;
      try {
        const farm = await readFarm(this.#origin);
        await this.#taken(farm);
        this.#current = farm;
        this.#problem = undefined;
        this.#log.info({}, "Took up the changed configuration");
      } catch (error) {
        this.#problem = messageOf(error);
        this.#log.error({ problem: this.#problem }, "Kept the old configuration: the changed one cannot be used");
      }
    }
  }

  #watch(): void {
    if (!("file" in this.#origin)) return;
    const file = resolve(this.#origin.file);
    this.#watcher = watch(dirname(file), (_event, name) => {
      if (name === null || name === basename(file)) void this.reload();
    });
    this.#watcher.on("error", (error) =>
      this.#log.warn({ error: messageOf(error) }, "Cannot watch the configuration; send SIGHUP after a change"),
    );
  }
}

export interface LiveConfigOptions {
  readonly origin: ConfigOrigin;
  readonly clock: Clock;
  readonly log: Log;
  /** Brings the rest of the farm in step with `farm`; when it throws, the old one stays in force. */
  readonly taken: (farm: FarmConfig) => Promise<void>;
}
