/**
 * ui/: how pages look, on the server and in the browser.
 *
 * A page is plain data (this file and the top of each file in pages/) and one component that shows it. The server renders the component to
 * HTML; in the browser islands/farm.tsx hydrates the same component with the same data and gives it newer data as things happen. So nothing
 * here reads a clock, a cookie or a database: what a component shows is in its props, and `useNow` (now.ts) is the only thing that moves.
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

/** What everybody must know, in one line; `detail` has a line for each thing to mend, "" when there is nothing more to say. */
export interface Banner {
  readonly summary: string;
  readonly detail: string;
}

/** What stands around every page. */
export interface Frame {
  readonly farm: string;
  readonly version: string;
  readonly startedAt: number;
  readonly now: number;
  /** Path and query of this page. */
  readonly path: string;
  readonly title: string;
  readonly repos: readonly string[];
  readonly banners: readonly Banner[];
  readonly health: Level;
  /** May do what the buttons of pages do. */
  readonly operator: boolean;
  /** Who is logged in: "operator", or a mail address. */
  readonly who: string | null;
  /** Pages lead to `/gomotes`: there is something for whoever looks. */
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
  /** Of a pair: the commit that this one is tested with. */
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
  /** How long this builder usually takes; null when it never ended well. */
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

/** When something is likely to begin, from now: one in ten begins earlier, one in ten later. */
export interface Estimate {
  readonly earliestMs: number;
  readonly aboutMs: number;
  readonly latestMs: number;
}

/** What goes before a build in its queue; everything is counted once. */
export interface Ahead {
  readonly starving: number;
  /** Of the same repository. */
  readonly same: number;
  /** The rest, by class. */
  readonly others: readonly { readonly class: string; readonly count: number }[];
  /** The first of them. */
  readonly builds: readonly number[];
}

/** A machine that failed again and again and gets no work for now. */
export interface AsideLine {
  readonly name: string;
  readonly until: number;
  /** What it failed with, in a few words. */
  readonly reason: string;
}

/** Why a build has not begun, in the order of its queue. */
export interface Wait {
  /** 1: next. */
  readonly place: number;
  /** So many stand before it that nobody counted further. */
  readonly more: boolean;
  readonly ahead: Ahead;
  /** Machines of the host type that are connected and may take work. */
  readonly machines: number;
  readonly busy: number;
  readonly known: number;
  /** Of those known, who is set aside, and how many are connected and drained: they take nothing. */
  readonly aside: readonly AsideLine[];
  readonly resting: number;
  readonly drained: string | null;
  /** false: the configuration has no such host type any more. */
  readonly configured: boolean;
  readonly starving: boolean;
  /** What the machine that frees first is doing, when only one could serve. */
  readonly behind: { readonly build: number; readonly machine: MachineRef } | null;
  readonly estimate: Estimate | null;
  /** Why there is no estimate; null: there is one. */
  readonly unknown: string | null;
}

/** Machine names are unique within a host type only; the short address works while no other type has the same name. */
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
