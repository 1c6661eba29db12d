/** The data of `/b/ID` (build.tsx). */
import type { Status } from "../../farm/build.ts";
import type { BuildLine, MachineRef, Wait } from "../data.ts";
import type { LogData } from "../log-rows.tsx";
import type { Since } from "../since.tsx";
import type { GroupData, TestsData } from "../tests.tsx";
import type { BuildMachine } from "./build-machine.tsx";

/** The step in which a build runs its tests. */
export const TESTS_STEP = "tests";

export interface StepRow {
  readonly name: string;
  readonly status: Status;
  /** The result in the machine's words: `ok`, `exit status 2`. Null until the step has ended. */
  readonly exit: string | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly hasLog: boolean;
}

export interface AttemptRow {
  readonly number: number;
  readonly status: Status;
  readonly reason: string | null;
  readonly machine: MachineRef | null;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** Whether the build's tree was kept, or why it was not. */
  readonly snapshot: string | null;
}

/** Lines of the failing step that are likely to say why; `line` counts from 1. */
export interface WhyLine {
  readonly line: number;
  readonly text: string;
  readonly marked: boolean;
}

/**
 * How to repeat a failure by hand: commands for a POSIX shell, without the variables of `hidden`; or why there are
 * none.
 */
export type Reproduce = { readonly step: string } & (
  | { readonly commands: string; readonly hidden: readonly string[] }
  | { readonly cannot: string }
);

export interface Mini {
  readonly build: number;
  readonly label: string;
  readonly status: Status;
}

export interface BuildData {
  readonly build: BuildLine;
  /**
   * The build's machine, as far as the visitor may know of it. Null: the build has not failed, or the visitor may not
   * know.
   */
  readonly machine: BuildMachine | null;
  readonly committedAt: number;
  readonly provenance: string;
  readonly requestedBy: string | null;
  readonly rebuildOf: number | null;
  readonly knownIssues: readonly string[];
  /** Whether the farm planned it to find out which commit broke the builder. */
  readonly narrows: boolean;
  readonly since: Since | null;
  /** How to repeat the failure. Null: none of its steps failed. */
  readonly reproduce: Reproduce | null;
  readonly why: { readonly step: string; readonly lines: readonly WhyLine[] } | null;
  readonly wait: Wait | null;
  /** Its tests. Null: it has none of its own, or they are not listed yet. */
  readonly tests: TestsData | null;
  readonly attempt: number;
  readonly attempts: readonly AttemptRow[];
  /** Set while its machine is gone. The machine may come back until `until`, with the command that it runs. */
  readonly away: { readonly machine: string; readonly until: number } | null;
  readonly steps: readonly StepRow[];
  /** The step, or the group of tests, whose log is shown. */
  readonly step: string | null;
  /** Whether the address names the step. */
  readonly named: boolean;
  /** For a group of tests: which it ran, and where. */
  readonly group: GroupData | null;
  readonly log: LogData | null;
  /** When the log of `step` was deleted because of its age. */
  readonly logDroppedAt: number | null;
  readonly earlier: readonly Mini[];
  readonly elsewhere: readonly Mini[];
  readonly again: readonly Mini[];
}
