/**
 * Lines for the log of a build's tests: about every machine, in the order of events, each line once.
 *
 *   to tell -taken by the driver of the build's own machine-> on its way -that log has all of it-> gone
 *   on its way -its driver is gone before the log had it-> to tell
 *
 * The turn that makes a line true stores it (test-turn.ts), on any coordinator. The log has one writer, so that writer
 * fetches the lines whenever it looks. It notes at which byte of its log each line will end. The stored length of the
 * log then tells whether the line got there; the next writer of that log and the next attempt go by it.
 *
 * When helpers ended the build and nobody drives its own machine, the log that was left gets the remaining lines when
 * it is ended. When the attempt's driver had already ended its log and no other attempt reached its tests, later lines
 * are told nowhere.
 */
import { type BuildId, type EpochMs, type LogId, logId } from "../farm/ids.ts";
import { endLog, type OpenLog } from "./logs.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part } from "./statement.ts";

/** How many characters of a test's name a sentence shows. */
const NAME_SHOWN = 200;
/** How many names of failed tests a line shows. */
const NAMED = 10;

/**
 * Stores lines after all that are stored already, as a common table expression. To be executed while the tests of the
 * build are locked.
 */
export function linesStored(build: BuildId, lines: readonly string[]): Part {
  return part`lines as (
    insert into test_line (build_id, line)
    select ${build}, line from unnest(${lines}::text[]) with ordinality as t (line, number) order by number
  )`;
}

/**
 * The next lines for log `id`, whose writer writes byte `next` next and must write them at once. Empty for a writer
 * that was cut off. If an answer got lost, a second call gives the same lines, since their bytes were not written.
 */
export async function takeLines(
  sql: Sql,
  build: BuildId,
  { id, epoch }: Pick<OpenLog, "id" | "epoch">,
  next: number,
): Promise<Buffer> {
  const rows = await sql.query<{ line: string; had: number }>(
    `with mine as (
       select id from log where id = $2 and epoch = $3 and not ended for share
     ), told as (
       delete from test_line t using log l where t.build_id = $1 and l.id = t.log_id and t.to_byte <= l.length
     ), untold as (
       select t.place, t.line, case when t.log_id = $2 then greatest(0, $4 - t.to_byte + octet_length(t.line)) else 0 end as had
       from mine, test_line t left join log l on l.id = t.log_id
       where t.build_id = $1 and (t.log_id is null or t.to_byte > case when t.log_id = $2 then $4 else l.length end)
     ), taken as (
       update test_line t set log_id = $2, to_byte = u.to_byte
       from (select place, $4 + sum(octet_length(line) - had) over (order by place) as to_byte from untold) u
       where t.build_id = $1 and t.place = u.place
     )
     select line, had from untold order by place`,
    [build, id, epoch, next],
  );
  return Buffer.concat(rows.map(({ line, had }) => Buffer.from(line).subarray(had)));
}

/**
 * Ends the logs of tests whose build ended before `before`, with all lines that were still to be told, since their
 * writers are gone. Returns the logs. An interrupted call is done again, with the same result.
 */
export async function endLeftTestLogs(sql: Sql, before: EpochMs): Promise<LogId[]> {
  const left = await sql.query<{ build: BuildId; id: number; epoch: number; length: number; lines: number }>(
    `select distinct on (b.id) b.id as build, l.id, l.epoch, l.length, l.lines
     from log l join step s on s.log_id = l.id join attempt a on a.id = s.attempt_id join build b on b.id = a.build_id
     where not l.ended and s.name = 'tests' and b.ended_at < $1 order by b.id, a.number desc`,
    [at(before)],
  );
  for (const { build, ...row } of left) {
    const log: OpenLog = { ...row, id: logId(row.id) };
    const data = await takeLines(sql, build, log, log.length);
    const chunk =
      data.length === 0 ? undefined : { at: log.length, line: log.lines, length: data.length, packed: false, data };
    const lines = log.lines + data.toString("latin1").split("\n").length - 1;
    await endLog(sql, { ...log, chunk, length: log.length + data.length, lines, truncated: false });
  }
  return left.map(({ id }) => logId(id));
}

/** A test of a group, as the turn that settled the group knows it. */
export interface SettledTest {
  readonly name: string;
  readonly state: "waiting" | "ended";
  readonly outcome: string | null;
  readonly failures: number;
  /** The result could not be read in time. */
  readonly lost: boolean;
  /** Names of machines: where the test failed first, and where it has just run. */
  readonly failedOn: string | null;
  readonly ranOn: string;
}

/**
 * The lines about a group that has ended. `group` says who ran what and how it ended; `of` is how many tests it had.
 */
export function settledLines(group: string, of: number, tests: readonly SettledTest[]): string[] {
  if (tests.length === 0) return [`${group}; others had run its tests before\n`];
  const failed = tests.filter(({ failures, outcome }) => failures > 0 && outcome !== "flaky");
  const alone = tests.filter(({ state, failures }) => state === "waiting" && failures === 0).length;
  const lost = tests.filter((test) => test.lost).length;
  const parts = [group];
  if (lost > 0)
    parts.push(`it was too slow to tell what came of ${of === 1 ? "it" : lost === of ? "them" : `${lost} of them`}`);
  if (of > 1 && failed.length > 0) parts.push(`failed: ${listed(failed.map(({ name }) => name))}`);
  if (alone > 0) parts.push(of === 1 ? "runs once more" : `${alone} ${alone === 1 ? "runs" : "run"} alone now`);
  return [`${parts.join("; ")}\n`, ...tests.flatMap(outcomeLine)];
}

/** The result of running a test once more, or why it does not run again. */
function outcomeLine({ name, outcome, failures, failedOn, ranOn }: SettledTest): string[] {
  if (outcome === "flaky") return [`flaky: ${shown(name)} failed on ${failedOn} and passed on ${ranOn}\n`];
  if (outcome !== "failure") return [];
  if (failures === 1) return [`failed: ${shown(name)} on ${ranOn}, for good\n`];
  return [`failed: ${shown(name)} on ${failedOn} and on ${ranOn}\n`];
}

export function againLine(name: string, failedOn: string, again: string): string {
  return `failed: ${shown(name)} on ${failedOn}, runs again ${failedOn === again ? "there" : `on ${again}`}\n`;
}

/** The line about tests that run once more because `slow.machine` has run them for too long. */
export function slowLine(slow: RunningGroup, span: string, again: string): string {
  return `slow: ${groupText(slow)} on ${slow.machine} for ${span}, ${slow.count === 1 ? "runs" : "run"} again on ${again}\n`;
}

/** A group that its machine has not ended. */
export interface RunningGroup {
  readonly machine: string;
  readonly count: number;
  /** The name of one of its tests. */
  readonly first: string;
}

export function lostLine(lost: RunningGroup, status: string): string {
  return `${lost.machine}: ${groupText(lost)}: ${status}\n`;
}

function groupText({ count, first }: RunningGroup): string {
  return count === 1 ? shown(first) : `${count} tests`;
}

export function unschedulableLine(name: string, losses: number): string {
  return `unschedulable: ${shown(name)}: ${lossesText(losses)}\n`;
}

/** Why a test is not tried any more. */
export function lossesText(losses: number): string {
  return `${losses} machines were lost while they ran it, or too slow to tell what came of it`;
}

/** A test's name as a sentence shows it. */
export function shown(name: string): string {
  return name.length > NAME_SHOWN ? `${name.slice(0, NAME_SHOWN - 1)}…` : name;
}

/** The names as a sentence shows them: some, and how many more there are. */
export function listed(names: readonly string[]): string {
  const some = names.slice(0, NAMED).map(shown).join(", ");
  return names.length > NAMED ? `${some} and ${names.length - NAMED} more` : some;
}
