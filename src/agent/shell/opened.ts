/** What goes on over a line once it is open. */
import type { Exit, ShellFrame } from "../../wire/buildlet-api/shell.ts";

export interface Opened {
  readonly take: (frame: ShellFrame) => void;
  /** Ends what was started over a closed connection. Resolves when nothing of it is left. */
  readonly kill: () => Promise<void>;
}

/** How a line that had no process ends. */
export const DONE: Exit = { code: 0, signal: null, problem: "" };
