/**
 * One of gomote's commands, and how its words are read. Its exit status is 0, or 1 when it failed or was typed wrongly,
 * or one of its own.
 */
import { type Flags, type FlagValues, listFlags, parseFlags } from "../farm/flags.ts";
import { type Session, UsageError } from "./session.ts";

export interface Command {
  readonly name: string;
  /** Its line in the list of commands. */
  readonly summary: string;
  /** Reads the words behind the command's name and does what they say. Resolves with the exit status. */
  readonly start: (argv: readonly string[], session: Session) => Promise<number>;
}

interface Definition<F extends Flags> {
  readonly name: string;
  readonly summary: string;
  /** The words behind name and flags, such as `[instance] <path>...`. */
  readonly args: string;
  /** The sentences that -help prints. */
  readonly help: string;
  readonly flags: F;
  readonly run: (session: Session, flags: FlagValues<F>, args: readonly string[]) => Promise<number>;
}

export function command<F extends Flags>({ name, summary, args, help, flags, run }: Definition<F>): Command {
  const shown = Object.keys(flags).length === 0 ? "" : " [flags]";
  const usage = `usage: gomote ${name}${shown}${args === "" ? "" : ` ${args}`}\n\n${help}\n`;
  const start = async (argv: readonly string[], session: Session): Promise<number> => {
    const parsed = parseFlags(usage, flags, argv);
    if (parsed.kind === "stop") {
      session.output.usage(parsed.text);
      return parsed.exitCode === 0 ? 0 : 1;
    }
    try {
      await session.checkGroup();
      return await run(session, parsed.values, parsed.args);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      session.output.usage(`gomote ${name}: ${error.message}\n${listFlags(usage, flags)}`);
      return 1;
    }
  };
  return { name, summary, start };
}
