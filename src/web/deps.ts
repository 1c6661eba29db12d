/**
 * web/: what people and scripts get over HTTP: pages, their JSON, live events, actions, metrics.
 *
 * One Hono application (web-app.ts) serves the TLS port and the loopback port. A page is one `load` function (in: the
 * database and the configuration; out: plain data) and one component of ui/ (in: that data; out: HTML). The page's JSON
 * is the same data. An open page asks for its data again whenever a topic that it listens to is published. Every change
 * is a POST.
 *
 * This file names all that the application needs from other rooms, as plain functions: main wires them, and tests fake
 * few.
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
  /** The address of the text that says what to do about it. */
  readonly notes?: string;
  readonly lines: readonly CheckLine[];
}

/** Reads logs. logs/logs.ts implements it. */
export interface LogReader {
  /** The state of a log. Throws `not-found`, and `gone` for a log that was deleted because of its age. */
  state(id: LogId): Promise<LogState>;
  /** The stored bytes of [from, to). */
  read(id: LogId, from: number, to: number): AsyncIterable<Buffer>;
  /** As `read`; then everything that is added, until the log ends or `signal` aborts. */
  tail(id: LogId, from: number, signal: AbortSignal): AsyncIterable<Buffer>;
  /** The offset at which line `line` (from 1) begins; undefined while there is no such line. */
  lineStart(id: LogId, line: number): Promise<number | undefined>;
  /** The number (from 1) of the line that holds the byte at `offset`. */
  lineOf(id: LogId, offset: number): Promise<number>;
}

/**
 * What the operator may do. Each action rejects with a FarmError that says why it cannot be done. `who` goes into the
 * audit.
 */
export interface Actions {
  /** Builds the same once more. Without `made`, a build of the same is open already, and `build` is that one. */
  rebuild(build: BuildId, who: string): Promise<{ readonly build: BuildId; readonly made: boolean }>;
  cancel(build: BuildId, who: string): Promise<void>;
  /** Ends the setting aside of a machine: it gets work again at once. */
  readmitMachine(machine: number, who: string): Promise<void>;
  /** Gives nothing new to `target`. Throws `not-found`. A coordinator stays drained until it is started again. */
  drain(target: DrainTarget, note: string, who: string): Promise<void>;
  resume(target: DrainTarget, who: string): Promise<void>;
  revokeKey(key: string, who: string): Promise<void>;
}

/** A file that browsers fetch, named by its content. */
export interface Asset {
  readonly body: Buffer;
  readonly type: string;
}

/** The files that `npm run build` made for browsers. */
export interface Assets {
  /** The address of an entry, which is "farm.js" or "style.css". */
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
  /** Writes an action on an instance into the audit. */
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
  /** The token that makes its holder the operator. It is never shown and never logged. */
  readonly operatorToken: string;
  /** The HOST:PORT at which the TLS port listens. Pages print the address of reached.ts instead. */
  readonly dialAddress: () => string;
  /** The port of plain HTTP on loopback. */
  readonly httpPort: () => number;
  /** The port of the ssh gateway; undefined: there is none. */
  readonly sshPort: () => number | undefined;
  /** The configuration in force. */
  readonly config: () => FarmConfig;
  /** Notes that stand on every page, such as that the configuration is broken. */
  readonly banners: () => readonly Banner[];
  readonly checkers: () => readonly CheckResult[];
  /** The newest `count` commits that the merge `hash` brought into its branch, newest first. */
  readonly merged: (
    repo: string,
    hash: string,
    count: number,
  ) => Promise<readonly { readonly hash: string; readonly authorName: string; readonly message: string }[]>;
  /** Takes a push notice and returns the answer to it. Undefined: no webhook is configured. */
  readonly push?: (body: Readable, headers: Headers) => Promise<{ readonly status: number; readonly text: string }>;
}
