/** What `/b/ID` is made of (build.tsx). */
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
  /** As the machine said it: `ok`, `exit status 2`; null until the step ended. */
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
  /** Whether its tree was kept, or why not. */
  readonly snapshot: string | null;
}

/** Lines of the failing step that are likely to say why; `line` counts from 1. */
export interface WhyLine {
  readonly line: number;
  readonly text: string;
  readonly marked: boolean;
}

/** How to repeat by hand what failed: commands for a POSIX shell, without the variables of `hidden`; or why there are none. */
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
  /** As far as it concerns whoever looks; null: it has not failed, or its machine is nothing for them. */
  readonly machine: BuildMachine | null;
  readonly committedAt: number;
  readonly provenance: string;
  readonly requestedBy: string | null;
  readonly rebuildOf: number | null;
  readonly knownIssues: readonly string[];
  /** Planned by the farm to find out which commit broke the builder. */
  readonly narrows: boolean;
  readonly since: Since | null;
  /** null: none of its steps failed. */
  readonly reproduce: Reproduce | null;
  readonly why: { readonly step: string; readonly lines: readonly WhyLine[] } | null;
  readonly wait: Wait | null;
  /** null: it has no tests of its own, or they are not listed yet. */
  readonly tests: TestsData | null;
  readonly attempt: number;
  readonly attempts: readonly AttemptRow[];
  /** Its machine is gone and may come back, until then, with the command that it runs. */
  readonly away: { readonly machine: string; readonly until: number } | null;
  readonly steps: readonly StepRow[];
  /** The step, or the group of tests, whose log is shown. */
  readonly step: string | null;
  /** Whether the address names it. */
  readonly named: boolean;
  /** Of a group of tests: what it ran and where. */
  readonly group: GroupData | null;
  readonly log: LogData | null;
  /** When the log of `step` was deleted since it was old. */
  readonly logDroppedAt: number | null;
  readonly earlier: readonly Mini[];
  readonly elsewhere: readonly Mini[];
  readonly again: readonly Mini[];
}
