/**
 * stage0: gets the newest agent program from the coordinator and starts it.
 *
 *   1. waits for the coordinator to answer at all: every second, for 30 s (on Windows 5 min; -network-wait)
 *   2. brings the program up to date (download.ts); if that fails, logs it and uses the last good one if still whole
 *   3. starts it with the flags that stage0 was given, and -halt=false unless told otherwise
 *
 * Runs the agent once and ends as it did: 0 for 0, else 1. A supervisor (unit.ts prints the unit for it) starts stage0
 * again, which looks for a newer program again: that is how a changed agent reaches a machine. `-loop` does it without
 * a supervisor. Where the system has execve the agent takes stage0's place in memory; it then ends by itself with 0 or
 * 1 (or by the signal that stopped it).
 */
import type { IncomingMessage } from "node:http";
import type { Environment } from "../../dial/proxy.ts";
import type { Clock } from "../../farm/clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { formatDuration } from "../../farm/flags.ts";
import { type Ms, minutes, ms, seconds } from "../../farm/ids.ts";
import { checkFile, download } from "./download.ts";

const PROBE_EVERY: Ms = seconds(1);
const FIRST_PAUSE: Ms = seconds(1);
const LONGEST_PAUSE: Ms = minutes(5);

export interface Stage0Settings {
  /** Where the agent program is fetched. */
  readonly url: string;
  /** The file in which it is kept. */
  readonly file: string;
  /** Flags for the agent. */
  readonly args: readonly string[];
  /** How long to wait for the network; 0: the system's default. */
  readonly networkWait: Ms;
}

export interface Stage0Deps {
  readonly clock: Clock;
  readonly env: Environment;
  readonly platform: NodeJS.Platform;
  readonly uid: number | undefined;
  readonly log: (line: string) => void;
  readonly get: (method: "GET" | "HEAD", url: string) => Promise<IncomingMessage>;
  /** Runs the agent to its end and resolves with its exit code. With execve it never settles. */
  readonly launch: (file: string, args: readonly string[], env: Environment, signal: AbortSignal) => Promise<number>;
}

/** Updates and runs the agent once. Resolves with the exit code. */
export async function runOnce(settings: Stage0Settings, deps: Stage0Deps, signal: AbortSignal): Promise<0 | 1> {
  const { clock, log } = deps;
  const began = clock.monotonic();
  let networkDelay = ms(0);
  try {
    const head = await waitForNetwork(settings, deps, signal);
    networkDelay = ms(clock.monotonic() - began);
    const get = (method: "GET" | "HEAD") => deps.get(method, withCacheBuster(settings.url, clock));
    const changed = await download(settings.file, { clock, log, get }, head);
    if (changed) log(`Downloaded the agent from ${settings.url}`);
  } catch (error) {
    if (signal.aborted) return 1;
    const lastOne = checkFile(settings.file);
    let instead = "";
    if (lastOne === "whole") instead = "; starting the last good one";
    else if (lastOne !== "missing") instead = `; not starting the last one, which is damaged: ${lastOne.damage}`;
    log(`Cannot get the agent from ${settings.url}: ${messageOf(error)}${instead}`);
    if (lastOne !== "whole") return 1;
  }
  const rounded = (span: number) => formatDuration(ms(Math.round(span / 100) * 100));
  const root = deps.uid === 0;
  const env: Environment = {
    ...deps.env,
    GO_STAGE0_NET_DELAY: rounded(networkDelay),
    GO_STAGE0_DL_DELAY: rounded(clock.monotonic() - began - networkDelay),
    ...(root && !deps.env.USER ? { USER: "root" } : {}),
    ...(root && !deps.env.HOME ? { HOME: "/root" } : {}),
  };
  let code: number;
  try {
    code = await deps.launch(settings.file, settings.args, env, signal);
  } catch (error) {
    log(`Cannot start the agent: ${messageOf(error)}`);
    return 1;
  }
  if (code === 0) return 0;
  log(`The agent ended with exit code ${code}`);
  return 1;
}

/** Runs the agent again and again until `signal`: at once after a good run, after a growing pause when runs fail. */
export async function runLoop(settings: Stage0Settings, deps: Stage0Deps, signal: AbortSignal): Promise<void> {
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    const code = await runOnce(settings, deps, signal);
    if (signal.aborted) return;
    if (code === 0) pause = FIRST_PAUSE;
    else deps.log(`Starting it again in ${formatDuration(pause)}`);
    await deps.clock.sleep(pause, signal).catch(() => {});
    if (code !== 0) pause = ms(Math.min(pause * 2, LONGEST_PAUSE));
  }
}

/** Waits for the first answer of the coordinator, whatever it says. */
async function waitForNetwork(
  settings: Stage0Settings,
  deps: Stage0Deps,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { clock, platform } = deps;
  const limit = settings.networkWait || (platform === "win32" ? minutes(5) : seconds(30));
  const began = clock.monotonic();
  for (;;) {
    try {
      return await deps.get("HEAD", withCacheBuster(settings.url, clock));
    } catch (error) {
      if (clock.monotonic() - began >= limit) throw error;
      await clock.sleep(PROBE_EVERY, signal);
    }
  }
}

/** `url` with a query: without one, Google's storage would answer from a cache. */
function withCacheBuster(url: string, clock: Clock): string {
  if (!url.startsWith("https://storage.googleapis.com/") || url.includes("?")) return url;
  return `${url}?${Math.floor(clock.now() / 1000)}`;
}
