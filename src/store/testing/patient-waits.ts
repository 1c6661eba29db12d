/**
 * `vi.waitFor` without a limit of its own waits as long as a busy computer needs. Vitest's own limit, one second, is
 * for a computer that has nothing else to do.
 */
import { vi } from "vitest";

const LIMIT_MS = 20_000;

const { waitFor } = vi;
vi.waitFor = (callback, options) =>
  waitFor(callback, typeof options === "number" ? options : { timeout: LIMIT_MS, ...options });
