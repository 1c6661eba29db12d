/**
 * Who in /proc is a lease's. The agent is often its owner's own user, with their desktop beside it, so nobody is taken for the lease's
 * who may be somebody else's:
 *
 *   mark      a variable that a command began with; descendants inherit it, unless they clear their environment
 *   session   one that a command leads, or another of the lease's. It can be left, never entered; groups lie within
 *   parent    one of the lease's
 *   place     its folder, root or program is in the work dir, and it is what a process becomes that cleared its environment, began a
 *             session and lost its parent: an orphan, adopted by an ancestor of ours or by init, without a terminal or display, neither in our
 *             session nor in another cgroup. A shell or an editor in which the owner looks at the work dir is not that
 *
 * Who is older than this program cannot be one of them. The number of a session is a stranger's once nobody was in it, so what
 * is kept of a session is until when it was surely ours: who began by then is the lease's, and so is who shares it with such a one.
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";

export const MARK_VARIABLE = "BARNRAISER_EXEC";

/** What /proc counts time in, on all that Node runs on. */
const TICK_MS = 10;
export const INIT = 1;

/** Times are in ticks since the system started. */
export interface Session {
  /** Its leader's process. */
  readonly id: number;
  /** When its leader started. */
  readonly since: number;
  /** When it was surely still this one. */
  readonly until: number;
}

export interface Wanted {
  /** Value of MARK_VARIABLE, or the beginning of it: all commands whose mark begins so. */
  readonly mark: string;
  /** Marks that are to be left alone. */
  readonly spare?: ReadonlySet<string>;
  readonly sessions: readonly Session[];
  /** The work dir, where whoever is found by place is wanted too. */
  readonly place?: string | undefined;
}

export interface Found {
  readonly pids: readonly number[];
  /** Those in which somebody wanted is, who is not known by place alone: where to look the next time. */
  readonly sessions: readonly Session[];
}

export interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  /** Has a terminal. */
  readonly terminal: boolean;
  readonly started: number;
}

/** The session that `pid`, which we have just started, leads as long as it lives. One that is gone already leads none. */
export function sessionOf(pid: number): Session {
  return { id: pid, since: startedAt(statFields(String(pid))), until: Number.POSITIVE_INFINITY };
}

/** Its leader ended `ms` milliseconds after it was asked for. */
export function leaderEnded(session: Session, ms: number): Session {
  return { ...session, until: session.since + Math.ceil(ms / TICK_MS) + 1 };
}

/** Living processes that are wanted, or have a parent in `known`, where all found are added. */
export function findOnLinux(wanted: Wanted, known: Set<number>): Found {
  const mark = Buffer.from(`${MARK_VARIABLE}=${wanted.mark}`);
  const isMarked = ({ pid }: Row) => hasMark(read(`/proc/${pid}/environ`), mark, wanted.spare);
  const isInPlace = wanted.place === undefined ? () => false : placeTest(wanted.place);
  return choose(livingProcesses(), wanted.sessions, known, isMarked, isInPlace);
}

/** Who of `rows` is in one of `sessions`, marked or in place, or has such an ancestor or one in `known`, where all chosen are added. */
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

/** Adds to `known` who `is`, and the descendants of all who are known. */
function addWith(rows: readonly Row[], known: Set<number>, is: (row: Row) => boolean): void {
  for (const row of rows) if (!known.has(row.pid) && is(row)) known.add(row.pid);
  for (let before = -1; before !== known.size; ) {
    before = known.size;
    for (const row of rows) if (known.has(row.parent)) known.add(row.pid);
  }
}

/** Those of `ours`, and those that one of `rows` leads, with how far `rows` show them to be the same. */
function sessionsAmong(rows: readonly Row[], ours: readonly Session[]): Session[] {
  const led = rows.filter((row) => row.session === row.pid).map((row) => ({ id: row.pid, since: row.started }));
  const alive = new Map([...ours, ...led].map(({ id, since }) => [id, { id, since, until: since }]));
  for (const { session, started } of rows) {
    const one = alive.get(session);
    if (one) one.until = Math.max(one.until, started);
  }
  return [...alive.values()];
}

/** Without zombies, this process, and whoever is older. */
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

/** One whose first thread has ended looks like a zombie, and is none while it has others. */
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

/** `pid` and its ancestors, and init. */
export function ancestors(pid: number): Set<number> {
  const line = new Set<number>();
  for (let each = pid; each > INIT && !line.has(each); each = Number(statFields(String(each))[1] ?? 0)) line.add(each);
  return line.add(INIT);
}

/** What was deleted has a note behind its name. */
function isBelow(dir: string, path: string): boolean {
  return path === dir || path === `${dir} (deleted)` || path.startsWith(`${dir}/`);
}

/** The command's name is in brackets and may hold anything; fields count from behind it: state ppid pgrp session tty_nr. */
export function statFields(name: string): string[] {
  const stat = read(`/proc/${name}/stat`).toString("latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** NaN, which is neither before nor after anything, for who is gone. */
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
    return Buffer.alloc(0); // it ended, or is another user's
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // it ended, or is another user's
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // deleted
  }
}
