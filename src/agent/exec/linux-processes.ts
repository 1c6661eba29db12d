/**
 * Which processes in /proc belong to a lease. The agent often runs as its owner, beside the owner's desktop, so a
 * process that may be somebody else's is never taken for the lease's. A process belongs to the lease by one of these:
 *
 *   mark      a variable that a command began with; descendants inherit it, unless they clear their environment
 *   session   it is in a session that a command, or another process of the lease, leads. A process can leave a session,
 *             but never enter one. Process groups lie within sessions
 *   parent    its parent belongs to the lease
 *   place     its folder, root or program is in the work dir, and it looks like a process that cleared its environment,
 *             began a session and lost its parent: an orphan, adopted by an ancestor of ours or by init, without a
 *             terminal or display, neither in our session nor in another cgroup. A shell or an editor in which the
 *             owner looks at the work dir does not look so
 *
 * A process older than this program cannot belong to a lease. Once a session is empty, the system may give its number
 * to a stranger. So for each session we keep the time until which it was surely ours: processes that began by then are
 * the lease's, and so are those that share the session with one of them.
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";

export const MARK_VARIABLE = "BARNRAISER_EXEC";

/** The unit of time in /proc, on all systems on which Node runs. */
const TICK_MS = 10;
export const INIT = 1;

/** A session of processes. Times are in ticks since the system started. */
export interface Session {
  /** The process that leads it. */
  readonly id: number;
  /** When its leader started. */
  readonly since: number;
  /** Until when its number surely meant this session. */
  readonly until: number;
}

export interface Wanted {
  /** The value of MARK_VARIABLE, or its beginning, which means all commands whose mark begins so. */
  readonly mark: string;
  /** Marks of processes that are to be left alone. */
  readonly spare?: ReadonlySet<string>;
  readonly sessions: readonly Session[];
  /** The work dir, if processes that are found by place are wanted, too. */
  readonly place?: string | undefined;
}

export interface Found {
  readonly pids: readonly number[];
  /** Where to look the next time: the sessions of those that are found by more than their place. */
  readonly sessions: readonly Session[];
}

export interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  /** Whether it has a terminal. */
  readonly terminal: boolean;
  readonly started: number;
}

/** The session that `pid`, a child that we have just started, leads while it lives. One that is gone leads none. */
export function sessionOf(pid: number): Session {
  return { id: pid, since: startedAt(statFields(String(pid))), until: Number.POSITIVE_INFINITY };
}

/** The session, whose leader ended `ms` milliseconds after we asked for its start. */
export function leaderEnded(session: Session, ms: number): Session {
  return { ...session, until: session.since + Math.ceil(ms / TICK_MS) + 1 };
}

/** Living processes that are wanted or have a parent in `known`. All that are found are added to `known`. */
export function findOnLinux(wanted: Wanted, known: Set<number>): Found {
  const mark = Buffer.from(`${MARK_VARIABLE}=${wanted.mark}`);
  const isMarked = ({ pid }: Row) => hasMark(read(`/proc/${pid}/environ`), mark, wanted.spare);
  const isInPlace = wanted.place === undefined ? () => false : placeTest(wanted.place);
  return choose(livingProcesses(), wanted.sessions, known, isMarked, isInPlace);
}

/**
 * Those of `rows` that are in one of `sessions`, marked or in place, or have an ancestor that is so or is in `known`.
 * All that are chosen are added to `known`.
 */
export function choose(
  rows: readonly Row[],
  sessions: readonly Session[],
  known: Set<number>,
  isMarked: (row: Row) => boolean,
  isInPlace: (row: Row) => boolean,
): Found {
  const asked = new Map<number, Row[]>(sessions.map(({ id }) => [id, []]));
  for (const row of rows) asked.get(row.session)?.push(row);
  const within = ({ id, since }: Session) => (asked.get(id) ?? []).filter((row) => row.started >= since);
  const ours = sessions.filter((session) => within(session).some((row) => row.started <= session.until));
  for (const session of ours) for (const { pid } of within(session)) known.add(pid);
  addWith(rows, known, isMarked);
  const alive = sessionsAmong(
    rows.filter(({ pid }) => known.has(pid)),
    ours,
  );
  addWith(rows, known, isInPlace);
  return { pids: rows.filter(({ pid }) => known.has(pid)).map(({ pid }) => pid), sessions: alive };
}

/** Adds to `known` the rows for which `is` holds, and the descendants of all that are known. */
function addWith(rows: readonly Row[], known: Set<number>, is: (row: Row) => boolean): void {
  for (const row of rows) if (!known.has(row.pid) && is(row)) known.add(row.pid);
  for (let before = -1; before !== known.size; ) {
    before = known.size;
    for (const row of rows) if (known.has(row.parent)) known.add(row.pid);
  }
}

/**
 * The sessions of `ours` and those that one of `rows` leads, each with the time until which `rows` show it to be ours.
 */
function sessionsAmong(rows: readonly Row[], ours: readonly Session[]): Session[] {
  const led = rows.filter((row) => row.session === row.pid).map((row) => ({ id: row.pid, since: row.started }));
  const alive = new Map([...ours, ...led].map(({ id, since }) => [id, { id, since, until: since }]));
  for (const { session, started } of rows) {
    const one = alive.get(session);
    if (one) one.until = Math.max(one.until, started);
  }
  return [...alive.values()];
}

/** All living processes but zombies, this process, and older ones. */
function livingProcesses(): Row[] {
  const oldest = startedAt(statFields("self"));
  const rows: Row[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const fields = statFields(name);
    const [, parent, , session, terminal] = fields;
    const started = startedAt(fields);
    if (!isAlive(fields) || started < oldest) continue;
    rows.push({
      pid: Number(name),
      parent: Number(parent),
      session: Number(session),
      terminal: terminal !== "0",
      started,
    });
  }
  return rows;
}

/** A process whose first thread has ended looks like a zombie, but lives while it has other threads. */
export function isAlive([state = "", ...more]: readonly string[]): boolean {
  const threads = Number(more[16]);
  return state !== "" && state !== "X" && (state !== "Z" || threads > 1);
}

function placeTest(workDir: string): (row: Row) => boolean {
  const dir = realPath(workDir);
  const own = statFields("self");
  const adopters = ancestors(Number(own[1]));
  const cgroup = read("/proc/self/cgroup");
  return ({ pid, parent, session, terminal }) =>
    !terminal &&
    adopters.has(parent) &&
    !adopters.has(pid) &&
    session !== Number(own[3]) &&
    ["cwd", "exe", "root"].some((link) => isBelow(dir, linkOf(`/proc/${pid}/${link}`))) &&
    cgroup.equals(read(`/proc/${pid}/cgroup`)) &&
    !/(^|\0)(WAYLAND_)?DISPLAY=/.test(read(`/proc/${pid}/environ`).toString("latin1"));
}

/** `pid`, its ancestors, and init. */
export function ancestors(pid: number): Set<number> {
  const line = new Set<number>();
  for (let each = pid; each > INIT && !line.has(each); each = Number(statFields(String(each))[1] ?? 0)) line.add(each);
  return line.add(INIT);
}

/** Whether `path` is `dir` or below it. The link of a deleted file has a note behind its name. */
function isBelow(dir: string, path: string): boolean {
  return path === dir || path === `${dir} (deleted)` || path.startsWith(`${dir}/`);
}

/**
 * The fields behind the command's name, which is in brackets and may hold anything: state ppid pgrp session tty_nr …
 */
export function statFields(name: string): string[] {
  const stat = read(`/proc/${name}/stat`).toString("latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** When a process started. NaN, which is neither before nor after anything, for one that is gone. */
function startedAt(fields: readonly string[]): number {
  return Number(fields[19]);
}

function hasMark(environ: Buffer, wanted: Buffer, spare: ReadonlySet<string> | undefined): boolean {
  const at = environ.subarray(0, wanted.length).equals(wanted) ? 0 : environ.indexOf(`\0${wanted.toString()}`) + 1;
  if (at === 0 && !environ.subarray(0, wanted.length).equals(wanted)) return false;
  const end = environ.indexOf(0, at);
  const value = environ.toString("latin1", at + MARK_VARIABLE.length + 1, end === -1 ? undefined : end);
  return spare === undefined || !spare.has(value);
}

export function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // the process ended, or is another user's
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // the process ended, or is another user's
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // deleted
  }
}
