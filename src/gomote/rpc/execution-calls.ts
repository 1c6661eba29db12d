/**
 * Methods of barnraiser.Gomote about commands of the caller's instances: which run, which ended lately, killing one.
 */
import type { ServiceImpl } from "@connectrpc/connect";
import { type CommandPlace, commandsOf, type RanCommand } from "../../store/gomote-commands.ts";
import type { Sql } from "../../store/sql.ts";
import type { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import type { Instances } from "../instances.ts";
import type { RunningCommands } from "../running-commands.ts";
import { callerOf } from "./calls.ts";
import { unixSeconds } from "./requests.ts";

/** How many commands of an instance are read at once. */
const PAGE = 200;
/** Bytes of all commands of one answer, well below the 4 MiB that a client takes. */
const ANSWER_LIMIT = 3 * 1024 * 1024;
/** Bytes that an answer needs at most for each command beside its texts. */
const AROUND_COMMAND = 200;
/** Characters of each text of a command, when the commands that run are too many for one answer with whole texts. */
const SHORT_TEXT = 60;

type ExecutionCalls = Pick<ServiceImpl<typeof Gomote>, "listExecutions" | "killExecution">;

export interface ExecutionCallsDeps {
  readonly sql: Sql;
  readonly instances: Instances;
  readonly running: Pick<RunningCommands, "kill">;
}

export function executionCalls({ sql, instances, running }: ExecutionCallsDeps): ExecutionCalls {
  return {
    async listExecutions({ gomoteId }, context) {
      const person = callerOf(context);
      const of = gomoteId === "" ? await instances.list(person) : [await instances.find(person, gomoteId)];
      const ran = await Promise.all(of.map(({ id }) => latestOf(sql, id)));
      return { executions: fitting(ran.flat()).map(described) };
    },

    async killExecution({ gomoteId, executionId }, context) {
      const person = callerOf(context);
      const instance = await instances.use(person, gomoteId);
      await running.kill(instance, executionId, { who: person.email, as: "borrower" });
      return {};
    },
  };
}

/** All commands that run on an instance; then those that ended last, as many as the last page has room for. */
async function latestOf(sql: Sql, instance: number): Promise<RanCommand[]> {
  const all: RanCommand[] = [];
  for (let after: CommandPlace | null = null; ; ) {
    const page = await commandsOf(sql, { instance }, after, PAGE);
    all.push(...page);
    const last = page.at(-1);
    if (page.length < PAGE || !last || last.endedAt !== null) return all;
    after = { running: true, id: last.id };
  }
}

/**
 * As many commands as one answer holds, in their order: all that run, with short texts if need be; then, in the bytes
 * that are left, those that ended last.
 */
function fitting(commands: readonly RanCommand[]): readonly RanCommand[] {
  const running = commands.filter(runs);
  let bytes = bytesOf(running);
  if (bytes > ANSWER_LIMIT) return running.map(inShort);
  const told = new Set(running);
  for (const ran of commands.filter((each) => !runs(each)).toSorted((a, b) => b.id - a.id)) {
    bytes += bytesOf([ran]);
    if (bytes > ANSWER_LIMIT) break;
    told.add(ran);
  }
  return commands.filter((ran) => told.has(ran));
}

function runs({ endedAt }: RanCommand): boolean {
  return endedAt === null;
}

function bytesOf(commands: readonly RanCommand[]): number {
  const text = ({ command, dir, state, instance }: RanCommand) => `${command}${dir}${state}${instance}`;
  return commands.reduce((bytes, ran) => bytes + AROUND_COMMAND + Buffer.byteLength(text(ran)), 0);
}

function inShort(ran: RanCommand): RanCommand {
  const short = (text: string) => text.slice(0, SHORT_TEXT).toWellFormed();
  return { ...ran, command: short(ran.command), dir: short(ran.dir) };
}

function described(ran: RanCommand) {
  return {
    id: String(ran.id),
    gomoteId: ran.instance,
    argv: [ran.command],
    directory: ran.dir,
    started: unixSeconds(ran.startedAt),
    ended: unixSeconds(ran.endedAt ?? 0),
    processState: ran.state ?? "",
  };
}
