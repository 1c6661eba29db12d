/** Waiting, always with a signal that ends it. */
import { setTimeout as sleep } from "node:timers/promises";

export async function delay(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    throw signal.reason;
  }
}

export interface UntilOptions {
  readonly signal: AbortSignal;
  readonly limitMs: number;
  /** What is waited for, for the error. */
  readonly what: () => string;
  readonly everyMs?: number;
}

/** Resolves with what `look` gives, once that is neither undefined nor false. */
export async function until<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  options: UntilOptions,
): Promise<T> {
  const { signal, limitMs, what, everyMs = 20 } = options;
  const limit = performance.now() + limitMs;
  for (;;) {
    signal.throwIfAborted();
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > limit) throw new Error(`Waited ${limitMs / 1000} s in vain for ${what()}`);
    await delay(everyMs, signal);
  }
}

/** Wall time in milliseconds with fractions, comparable with what other processes of this machine read. */
export function wallMs(): number {
  return performance.timeOrigin + performance.now();
}
