/**
 * ui/: how pages look, on the server and in the browser.
 *
 * A page is plain data (this file and the top of each file in pages/) and one component that shows it. The server
 * renders the component to HTML. In the browser, islands/farm.tsx hydrates the same component with the same data and
 * gives it newer data when something changes. So nothing here reads a clock, a cookie or a database: a component shows
 * its props, and only `useNow` (now.ts) moves.
 *
 * Instants are milliseconds since 1970. Text is as others wrote it: components pass it through text.ts.
 */
import type { Status } from "../farm/build.ts";

export type Level = "ok" | "info" | "warn" | "error";

export interface Check {
  readonly id: string;
  readonly title: string;
  readonly notes?: string;
  readonly level: Level;
  readonly lines: readonly { readonly level: Exclude<Level, "ok">; readonly text: string }[];
}

/** A note on every page, in one line. `detail` has a line for each thing to mend, or is "". */
export interface Banner {
  readonly summary: string;
  readonly detail: string;
}

/** The data of the frame around every page. */
export interface Frame {
  readonly farm: string;
  readonly version: string;
  readonly startedAt: number;
  readonly now: number;
  /** The path and query of this page. */
  readonly path: string;
  readonly title: string;
  readonly repos: readonly string[];
  readonly banners: readonly Banner[];
  readonly health: Level;
  /** Whether the visitor may use the buttons for operators. */
  readonly operator: boolean;
  /** The visitor who is logged in: "operator", or a mail address. */
  readonly who: string | null;
  /** Whether pages lead to `/gomotes`, because it has something for the visitor. */
  readonly gomotes: boolean;
  readonly theme: "light" | "dark" | "system";
}

/** One build as a line of a table. */
export interface BuildLine {
  readonly id: number;
  readonly repo: string;
  readonly branch: string;
  readonly hash: string;
  readonly subject: string;
  readonly author: string;
  readonly builder: string;
  /** The other commit of a pair, which this one is tested with. */
  readonly other: OtherCommit | null;
  readonly hostType: string;
  readonly status: Status;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly attempts: number;
  readonly machine: MachineRef | null;
  /** The step that runs, or the one that failed. */
  readonly step: string | null;
  readonly reason: string | null;
  readonly tests: {
    readonly total: number;
    readonly ended: number;
    readonly failed: number;
    readonly flaky: number;
  } | null;
  /** How long this builder usually takes; null when it has never succeeded. */
  readonly usualMs: number | null;
}

export interface OtherCommit {
  readonly repo: string;
  readonly branch: string;
  readonly hash: string;
}

export interface MachineRef {
  readonly hostType: string;
  readonly name: string;
}

export type MachineMode = "idle" | "busy" | "away" | "drained" | "set aside";

/** When something is likely to begin, counted from now. One in ten begins earlier, and one in ten later. */
export interface Estimate {
  readonly earliestMs: number;
  readonly aboutMs: number;
  readonly latestMs: number;
}

/** What goes before a build in its queue. Everything is counted once. */
export interface Ahead {
  readonly starving: number;
  /** How many builds of the same repository go before it. */
  readonly same: number;
  /** How many others go before it, by class. */
  readonly others: readonly { readonly class: string; readonly count: number }[];
  /** The numbers of the first builds that go before it. */
  readonly builds: readonly number[];
}

/** A machine that is set aside: it failed several times in a row and gets no work for a while. */
export interface AsideLine {
  readonly name: string;
  readonly until: number;
  /** Why it failed, in a few words. */
  readonly reason: string;
}

/** Why idle machines do not take a build: all of them failed it a moment ago, and others go first. */
export interface Avoiding {
  readonly machines: readonly string[];
  /** From then on they may take it. */
  readonly until: number;
  /** Whether others serve, which it need not wait so long for. */
  readonly others: boolean;
}

/** Why a build has not begun, by the order of its queue. */
export interface Wait {
  /** Its place in the queue; 1 is next. */
  readonly place: number;
  /** Whether so many stand before it that the count was stopped. */
  readonly more: boolean;
  readonly ahead: Ahead;
  /** How many machines of the host type are connected and may take work. */
  readonly machines: number;
  readonly busy: number;
  readonly known: number;
  /**
   * The known machines that are set aside. They take nothing; nor do the `resting` ones, which are connected and
   * drained.
   */
  readonly aside: readonly AsideLine[];
  readonly resting: number;
  readonly drained: string | null;
  /** Whether the configuration still has the host type. */
  readonly configured: boolean;
  readonly starving: boolean;
  /** Null: no machine is idle, or one that may take it. */
  readonly avoiding: Avoiding | null;
  /** The work of the machine that becomes free first, when only one machine could serve. */
  readonly behind: { readonly build: number; readonly machine: MachineRef } | null;
  readonly estimate: Estimate | null;
  /** Why there is no estimate. Null: there is one. */
  readonly unknown: string | null;
}

/**
 * The address of a machine's page. Names are unique within a host type only, so the short address works while no other
 * type has the same name.
 */
export function machineHref(machine: MachineRef): string {
  return `/machines/${encodeURIComponent(machine.name)}?type=${encodeURIComponent(machine.hostType)}`;
}

export function repoHref(repo: string): string {
  return `/p/${encodeURIComponent(repo)}`;
}

export function commitHref(repo: string, hash: string): string {
  return `${repoHref(repo)}/${hash}`;
}

export function stepHref(build: number, step: string): string {
  return `/b/${build}/${encodeURIComponent(step)}`;
}
