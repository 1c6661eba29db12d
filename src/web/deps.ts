/**
 * web/: what people and scripts get over HTTP: pages, their JSON, live events, actions, metrics.
 *
 * One Hono application (web-app.ts) serves the TLS port and the loopback port. A page is one `load` function (the database and the
 * configuration in, plain data out) and one component of ui/ (that data in, HTML out); the same data is the page's JSON, and an open page
 * asks for it again whenever a topic that it listens to is published. Whatever changes something is a POST by the operator.
 *
 * This file names all that the application needs from other rooms, as plain functions, so that main wires it and tests fake little.
 */
import type { Readable } from "node:stream";
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import type { BuildId, CoordinatorId, EpochMs, LogId } from "../farm/ids.ts";
import type { Creations } from "../gomote/creations.ts";
import type { Holds } from "../gomote/holds.ts";
import type { Instances } from "../gomote/instances.ts";
import type { Records } from "../gomote/rpc/requests.ts";
import type { RunningCommands } from "../gomote/running-commands.ts";
import type { Terminals } from "../gomote/terminals/terminals.ts";
import type { Peers } from "../peers/peers.ts";
import type { OpenId } from "../people/openid.ts";
import type { People } from "../people/people.ts";
import type { DrainTarget } from "../store/drain.ts";
import type { LogState } from "../store/logs.ts";
import type { Sql } from "../store/sql.ts";
import type { Banner } from "../ui/data.ts";

export interface CheckLine {
  readonly level: "info" | "warn" | "error";
  readonly text: string;
}

/** What one health checker found; no lines means all is well. */
export interface CheckResult {
  readonly id: string;
  readonly title: string;
  /** Where somebody reads what to do about it. */
  readonly notes?: string;
  readonly lines: readonly CheckLine[];
}

/** Reading logs, as logs/logs.ts does. */
export interface LogReader {
  /** Throws `not-found`, and `gone` for a log that was deleted since it was old. */
  state(id: LogId): Promise<LogState>;
  /** The stored bytes of [from, to). */
  read(id: LogId, from: number, to: number): AsyncIterable<Buffer>;
  /** As `read`, and then what is added until the log ended or `signal` aborts. */
  tail(id: LogId, from: number, signal: AbortSignal): AsyncIterable<Buffer>;
  /** Where line `line` (from 1) begins; undefined while there is none. */
  lineStart(id: LogId, line: number): Promise<number | undefined>;
  /** The number (from 1) of the line that holds the byte at `offset`. */
  lineOf(id: LogId, offset: number): Promise<number>;
}

/** What the operator may do. Each rejects with a FarmError that says why not; `who` goes into the audit. */
export interface Actions {
  /** Not `made`: another build of the same is open already, and is the one that was asked for. */
  rebuild(build: BuildId, who: string): Promise<{ readonly build: BuildId; readonly made: boolean }>;
  cancel(build: BuildId, who: string): Promise<void>;
  /** A machine that is set aside gets work again at once. */
  readmitMachine(machine: number, who: string): Promise<void>;
  /** Throw `not-found`. A coordinator is drained until it is started again. */
  drain(target: DrainTarget, note: string, who: string): Promise<void>;
  resume(target: DrainTarget, who: string): Promise<void>;
  revokeKey(key: string, who: string): Promise<void>;
}

/** A file that browsers fetch, named by its content. */
export interface Asset {
  readonly body: Buffer;
  readonly type: string;
}

/** What `npm run build` made for browsers. */
export interface Assets {
  /** The address of an entry: "farm.js", "style.css". */
  url(name: string): string;
  /** The file behind `/assets/NAME`. */
  get(name: string): Asset | undefined;
}

/** Machines that people borrow. */
export interface Lending {
  readonly instances: Pick<Instances, "use" | "held" | "keep" | "destroy" | "end">;
  readonly creations: Pick<Creations, "create">;
  readonly holds: Pick<Holds, "hold">;
  readonly terminals: Pick<Terminals, "open" | "find" | "show">;
  readonly running: Pick<RunningCommands, "kill">;
  /** Into the audit. */
  readonly records: Records;
  /** Connections to the farm's other coordinators. */
  readonly peers: Pick<Peers, "connect">;
}

export interface WebDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly assets: Assets;
  readonly logs: LogReader;
  readonly actions: Actions;
  readonly people: People;
  readonly openid: OpenId;
  readonly lending: Lending;
  readonly farmName: string;
  readonly version: string;
  readonly startedAt: EpochMs;
  readonly coordinator: CoordinatorId;
  /** Whoever holds it may act. Never shown, never logged. */
  readonly operatorToken: string;
  /** HOST:PORT at which the TLS port listens. What pages print: reached.ts. */
  readonly dialAddress: () => string;
  /** The port of plain HTTP on loopback. */
  readonly httpPort: () => number;
  /** Undefined: there is no ssh gateway. */
  readonly sshPort: () => number | undefined;
  /** The configuration in force. */
  readonly config: () => FarmConfig;
  /** What everybody must know: a broken configuration. */
  readonly banners: () => readonly Banner[];
  readonly checkers: () => readonly CheckResult[];
  /** The newest `count` commits that a merge brought, newest first. */
  readonly merged: (
    repo: string,
    hash: string,
    count: number,
  ) => Promise<readonly { readonly hash: string; readonly authorName: string; readonly message: string }[]>;
  /** A push notice; answers what to send back. Undefined when no hook is set up. */
  readonly push?: (body: Readable, headers: Headers) => Promise<{ readonly status: number; readonly text: string }>;
}
