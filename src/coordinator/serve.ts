/**
 * A farm as a program: what it prints, and how it ends. Only the programs that run a farm load this file, and only when
 * they do: it brings the whole farm, which a short command does not need.
 */
import { constants } from "node:os";
import pino from "pino";
import type { Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { usageError } from "../farm/flags.ts";
import { systemClock } from "../store/system-clock.ts";
import { parseAddress } from "./address.ts";
import { Coordinator } from "./coordinator.ts";
import { once } from "./once.ts";
import type { CoordinatorOptions } from "./options.ts";
import type { Ending } from "./program.ts";
import { showBuilds } from "./terminal.ts";
import { VERSION } from "./version.ts";

/** After a second Ctrl-C, or this long, the program no longer waits for a clean end. */
const END_LIMIT_MS = 60_000;

type Given = "data" | "secrets" | "origin" | "dev" | "allowDevKey" | "masterKeyFile" | "certificate" | "farmName";

/** The options of a farm, with its addresses as they were typed. */
export interface ServeOptions extends Pick<CoordinatorOptions, Given> {
  readonly listen: string;
  /** The address for other coordinators; "": it is worked out from `listen`. */
  readonly peer?: string;
  readonly http: string;
  /** The address of the ssh gateway; "": there is none. */
  readonly listenSsh?: string;
  /** Shows builds as lines on stdout, instead of the structured log. */
  readonly terminal?: boolean;
  readonly once?: boolean;
}

/**
 * Runs a farm until SIGINT or SIGTERM, or with `once` until the newest builds have ended. Resolves with the exit
 * status.
 */
export async function serve(options: ServeOptions): Promise<Ending> {
  const listen = parseAddress(options.listen);
  if (!listen) return usageError(`invalid value ${JSON.stringify(options.listen)} for flag -listen: want HOST:PORT`);
  const http = parseAddress(options.http);
  if (!http) return usageError(`invalid value ${JSON.stringify(options.http)} for flag -http: want HOST:PORT`);
  const peer = options.peer ? parseAddress(options.peer) : undefined;
  if (options.peer && !peer?.host) {
    return usageError(`invalid value ${JSON.stringify(options.peer)} for flag -peer: want HOST:PORT`);
  }
  const listenSsh = options.listenSsh ? parseAddress(options.listenSsh) : undefined;
  if (options.listenSsh && !listenSsh) {
    return usageError(`invalid value ${JSON.stringify(options.listenSsh)} for flag -listen-ssh: want HOST:PORT`);
  }
  const log: Log = options.terminal
    ? pino({ level: process.env.BARNRAISER_LOG ?? "error" }, pino.destination({ dest: 2, sync: true }))
    : pino({ level: process.env.BARNRAISER_LOG ?? "info" }, pino.destination({ dest: 1, sync: true }));

  const ended = new AbortController();
  const end = (reason: string) => {
    ended.abort(reason);
    setTimeout(() => process.exit(2), END_LIMIT_MS).unref(); // gone with the process when that ends in time
  };
  const onSignal = (signal: NodeJS.Signals) => {
    if (ended.signal.aborted) process.exit(128 + constants.signals[signal]); // asked twice: at once
    end(signal);
  };
  // After its start a daemon reads its configuration again on SIGHUP, which never ends it. A farm in a terminal ends
  // with the terminal.
  let started = false;
  let outdated = false;
  let reload = (): void => {
    outdated = true;
  };
  const hangUp = options.terminal ? onSignal : () => reload();
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal).on("SIGHUP", hangUp);
  try {
    await using farm = await Coordinator.start({
      ...options,
      listen,
      peer,
      http,
      listenSsh,
      clock: systemClock,
      log,
      ending: ended.signal,
      lost: () => {
        log.error({}, "Another coordinator took this one for dead and has its work; ending");
        end("SIGTERM");
      },
    });
    started = true;
    reload = () => void farm.reload();
    if (outdated) reload();
    if (options.terminal) process.stdout.write(heading(farm));
    else log.info({ pages: farm.pages, machines: farm.machines, ...farm.gateway, version: VERSION }, "The farm runs");
    try {
      return await follow(farm, options, ended);
    } finally {
      reload = () => {};
    }
  } catch (error) {
    if (!started && ended.signal.aborted) {
      log.info({ why: ended.signal.reason, error: messageOf(error) }, "The farm ended before it had started");
      process.exit(options.once ? 2 : 0); // what it waited for may still hold the process up
    }
    if (error === "SIGINT" || error === "SIGTERM") return { text: "", exitCode: 2 }; // -once, and it was not let finish
    throw error;
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/**
 * Shows what the farm does until `ended` aborts, with `once` until its builds have ended. Resolves with the exit
 * status.
 */
async function follow(farm: Coordinator, options: ServeOptions, ended: AbortController): Promise<number> {
  const { sql, bus, pages, newest } = farm;
  const shown = options.terminal
    ? showBuilds({ sql, bus, clock: systemClock, out: process.stdout, pages }, ended.signal)
    : undefined;
  try {
    if (!options.once) {
      await aborted(ended.signal);
      return 0;
    }
    let verdict = "";
    const out = { write: (text: string) => (verdict += text) };
    const status = await once({ bus, clock: systemClock, newest, out, pages }, ended.signal);
    ended.abort("done");
    await shown; // the verdict stands below the last line
    process.stdout.write(verdict);
    return status;
  } finally {
    ended.abort("done");
    await shown;
    if (options.terminal && !options.once) process.stdout.write("Ending what runs here…\n");
  }
}

function heading(farm: Coordinator): string {
  const lines = [
    `Barnraiser ${VERSION}`,
    `  pages     ${farm.pages}`,
    `  machines  ${farm.machines}   (CA certificate ${farm.caFile})`,
    ...farm.watching.map((line) => `  watching  ${line}`),
  ];
  return `${lines.join("\n")}\n`;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
