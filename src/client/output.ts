/**
 * What a command says. Programs read stdout, so only data goes there: ids, listings, output of commands. Everything for people goes to
 * stderr, each line with `# ` before it; the text that explains a command's usage goes there as it is.
 */
import { once } from "node:events";
import type { Writable } from "node:stream";

export interface Output {
  /** Resolves when there is room for more, so that a slow reader slows down the farm and not this computer's memory; or on Ctrl-C. */
  data(piece: string | Uint8Array): Promise<void>;
  note(line: string): void;
  usage(text: string): void;
}

export function outputTo(stdout: Writable, stderr: Writable, signal: AbortSignal): Output {
  /** One for all that wait, however many instances print. */
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
