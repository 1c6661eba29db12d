/**
 * What a command prints. Programs read stdout, so only data goes there: ids, listings, output of commands. Everything
 * for people goes to stderr, each line with `# ` before it. The text that explains a command's usage goes to stderr as
 * it is.
 */
import { once } from "node:events";
import type { Writable } from "node:stream";

export interface Output {
  /** Prints data. Resolves when there is room for more, or on Ctrl-C: a slow reader thus slows the farm down. */
  data(piece: string | Uint8Array): Promise<void>;
  note(line: string): void;
  usage(text: string): void;
}

export function outputTo(stdout: Writable, stderr: Writable, signal: AbortSignal): Output {
  /** The promise that all callers wait for, however many instances print. */
  let drained: Promise<void> | undefined;
  const drain = async () => {
    await once(stdout, "drain", { signal }).catch(() => {});
    drained = undefined;
  };
  return {
    data: async (piece) => {
      if (stdout.write(piece)) return;
      drained ??= drain();
      await drained;
    },
    note: (line) => {
      stderr.write(`${line.replace(/\n$/, "").replaceAll(/^/gm, "# ")}\n`);
    },
    usage: (text) => {
      stderr.write(text);
    },
  };
}
