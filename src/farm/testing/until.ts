/** Waiting in tests for what other code does in its own time. */
import { vi } from "vitest";

/**
 * Waits until `check` holds: it neither throws, as an expectation does, nor gives false. It is asked every few
 * milliseconds. After ten seconds the error is the last one that it threw, or names `what`.
 */
export async function until(
  check: () => Promise<boolean> | Promise<void> | boolean | void,
  what = "what the test waits for",
): Promise<void> {
  const holds = async () => {
    if ((await check()) === false) throw new Error(`Timed out waiting: ${what}`);
  };
  await vi.waitFor(holds, { timeout: 10_000, interval: 5 });
}
