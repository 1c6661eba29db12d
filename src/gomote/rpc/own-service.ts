/**
 * barnraiser.Gomote: what our own command needs beyond the original's service (wire/gomote/barnraiser.proto). Rules are those of
 * gomote-service.ts.
 */
import { pipeline, Readable } from "node:stream";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { folderOf } from "../../builds/command.ts";
import { type SourcesDeps, writeSources } from "../../builds/sources.ts";
import { TESTS_STEP } from "../../builds/tests-step.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Step, TestsSpec } from "../../farm/build.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { buildId } from "../../farm/ids.ts";
import { mayNotBorrow } from "../../farm/lending.ts";
import { failedIn } from "../../store/failed-tests.ts";
import { type CommandPlace, commandsOf, type RanCommand } from "../../store/gomote-commands.ts";
import { lastAttemptSteps, recipeOf } from "../../store/pages-build.ts";
import { connected } from "../../store/pages-pools.ts";
import type { Sql } from "../../store/sql.ts";
import type { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import type { Holds } from "../holds.ts";
import { allTypes } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import { listed } from "../machine-files.ts";
import type { RunningCommands } from "../running-commands.ts";
import { Meter } from "../transfers/meter.ts";
import { callerOf } from "./calls.ts";
import { OutputQueue } from "./output-queue.ts";
import { type Records, want, wantBelow } from "./requests.ts";
import { orAborted } from "./rpc-error.ts";

/** Named in the command that runs them. */
const MOST_TESTS = 50;
/** Of a listing; well below the 4 MiB that a client takes. */
const MESSAGE = 128 * 1024;
/** Of each instance, beside all that runs: what ended, the newest first. */
const TOLD = 200;
/** And of all together; below the 4 MiB that a client takes. */
const TOLD_BYTES = 3 * 1024 * 1024;
/** Of one, around its texts. */
const TOLD_AROUND = 200;
/** Characters of each of its texts, where so much runs that otherwise not all of it would be told. */
const TOLD_WORDS = 60;

export interface OwnServiceDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  readonly holds: Holds;
  readonly running: Pick<RunningCommands, "kill">;
  readonly records: Records;
  readonly tarball: SourcesDeps["tarball"];
  /** Where `ssh` is to connect; undefined: nowhere. */
  readonly ssh: { readonly address: string; readonly hostKeys: readonly string[] } | undefined;
}

export function ownService(deps: OwnServiceDeps): ServiceImpl<typeof Gomote> {
  const { sql, clock, config, instances, holds, running, records, tarball, ssh } = deps;

  async function buildOf(build: bigint) {
    const found = build > Number.MAX_SAFE_INTEGER ? undefined : await recipeOf(sql, Number(build));
    if (!found) throw new FarmError("not-found", `There is no build ${build}.`);
    return found;
  }

  return {
    async listExecutions({ gomoteId }, context) {
      const person = callerOf(context);
      const of = gomoteId === "" ? await instances.list(person) : [await instances.find(person, gomoteId)];
      const ran = await Promise.all(of.map(({ id }) => toldOf(sql, id)));
      return { executions: fitting(ran.flat()).map(described) };
    },

    async killExecution({ gomoteId, executionId }, context) {
      const person = callerOf(context);
      const instance = await instances.use(person, gomoteId);
      await running.kill(instance, executionId, { who: person.email, as: "borrower" });
      return {};
    },

    async *listFolder({ gomoteId, directory, skip }, context) {
      want(directory !== "", `Cannot list a directory without its name; "." is the work dir.`);
      const held = await instances.held(callerOf(context), gomoteId);
      using _ = instances.keep(held.instance);
      wantBelow(directory, held.instance);
      const options = { recursive: true, digest: true, skip, nul: true };
      const listing = await orAborted(listed(held, directory, options, AbortSignal.any([context.signal, held.over])));
      for await (const lines of inMessages(listing)) yield { lines };
    },

    async pushFiles(messages, context) {
      const parts = messages[Symbol.asyncIterator]();
      const first = await parts.next();
      want(first.done !== true, "Cannot push files without saying where to.");
      if (first.done) return {};
      const { gomoteId, directory, tgz } = first.value;
      const person = callerOf(context);
      const held = await instances.held(person, gomoteId);
      using _ = instances.keep(held.instance);
      wantBelow(directory || ".", held.instance);
      await records(person, "write", held.instance, `${directory || "."}/`);
      const limitBytes = config().gomote.transferLimitBytes;
      const body = new Meter({ clock, what: "the push", limitBytes });
      pipeline(Readable.from(rest(tgz, parts), { objectMode: false }), body, () => {}); // an end of either is told by the meter
      const dir = directory === "." ? "" : directory;
      await held.machine.client.writeTgz(dir, body, AbortSignal.any([context.signal, held.over]));
      return {};
    },

    async getBuildLayout({ build }, context) {
      const { recipe } = await buildOf(build);
      const host = config().hosts.find(({ hostType }) => hostType === recipe.hostType);
      const refusal = host ? mayNotBorrow(callerOf(context), host) : `the farm has no ${recipe.hostType} any more.`;
      if (refusal !== undefined) throw new FarmError("forbidden", `Cannot tell how build ${build} is made: ${refusal}`);
      const ended = await lastAttemptSteps(sql, Number(build));
      const failed = ended.find(({ outcome }) => outcome === "failure")?.name;
      const { builders } = config();
      const tests = recipe.tests
        ? [testsStep(recipe.tests, await failedIn(sql, buildId(Number(build)), MOST_TESTS))]
        : [];
      return {
        builderType: builders.some(({ name }) => name === recipe.builder) ? recipe.builder : recipe.hostType,
        hostType: recipe.hostType,
        environment: [...recipe.env],
        steps: [...recipe.steps, ...tests].map((step) => ({
          name: step.name,
          argv: [...step.command],
          directory: folderOf(recipe.sourceDir, step.dir),
          environment: [...step.env],
          path: [...step.path],
          failed: step.name === failed,
        })),
      };
    },

    async *layOutBuild({ gomoteId, build }, context) {
      const person = callerOf(context);
      const { repo, hash, recipe } = await buildOf(build);
      const held = await instances.held(person, gomoteId);
      const { instance, machine, over } = held;
      using _ = instances.keep(instance);
      await records(person, "write", instance, `build ${build}`);
      const said = new OutputQueue(context.signal);
      const say = (line: string) => said.write(Buffer.from(line));
      const tree = { repo, hash };
      const signal = AbortSignal.any([context.signal, over]);
      const written = writeSources({ clock, tarball, say }, tree, recipe, machine, signal).then(
        () => said.end(undefined),
        (error: unknown) => said.end(error),
      );
      for await (const line of said.chunks()) yield { progress: Buffer.from(line).toString() };
      await written;
    },

    async *holdBuild({ build }, context) {
      const { recipe } = await buildOf(build);
      const held = { id: buildId(Number(build)), builder: recipe.builder, hostType: recipe.hostType };
      for await (const news of holds.hold(callerOf(context), held, context.signal))
        yield "instance" in news ? { gomoteId: news.instance.name } : news;
    },

    async describeInstance({ gomoteId }, context) {
      const instance = await instances.use(callerOf(context), gomoteId);
      const host = config().hosts.find(({ hostType }) => hostType === instance.hostType);
      const [os = "", arch = ""] = (host?.hostArch ?? "").split("-");
      return {
        builderType: instance.builderType,
        hostType: instance.hostType,
        machine: instance.machine ?? "",
        workingDir: instance.workingDir ?? "",
        goos: os,
        goarch: arch,
        created: inSeconds(instance.createdAt),
        expires: inSeconds(instance.expiresAt),
        limit: inSeconds(instance.limitAt ?? 0),
        sshAddress: ssh?.address ?? "",
        sshHostKeys: [...(ssh?.hostKeys ?? [])],
      };
    },

    async listTypes(_, context: HandlerContext) {
      const person = callerOf(context);
      const sessions = Map.groupBy(await connected(sql), ({ hostType }) => hostType);
      return {
        types: allTypes(config()).map(({ name, host }) => {
          const there = (sessions.get(host.hostType) ?? []).filter(({ drained, setAside }) => !drained && !setAside);
          return {
            builderType: name,
            hostType: host.hostType,
            refusal: mayNotBorrow(person, host) ?? "",
            machines: there.length,
            idle: there.filter(({ heldAt }) => heldAt === null).length,
          };
        }),
      };
    },
  };
}

/** All that runs on an instance, and then what ended lately. */
async function toldOf(sql: Sql, instance: number): Promise<RanCommand[]> {
  const all: RanCommand[] = [];
  for (let after: CommandPlace | null = null; ; ) {
    const page = await commandsOf(sql, { instance }, after, TOLD);
    all.push(...page);
    const last = page.at(-1);
    if (page.length < TOLD || !last || last.endedAt !== null) return all;
    after = { running: true, id: last.id };
  }
}

/** As many as one answer holds, in their order: all that runs, if need be with its words cut short, and of what ended the newest. */
function fitting(commands: readonly RanCommand[]): readonly RanCommand[] {
  const [running, ended] = [commands.filter(runs), commands.filter((ran) => !runs(ran))];
  let bytes = bytesOf(running);
  const isTooMuch = bytes > TOLD_BYTES;
  const told = new Set<RanCommand>(running);
  for (const ran of ended.toSorted((a, b) => b.id - a.id)) {
    bytes += bytesOf([ran]);
    if (bytes > TOLD_BYTES) break;
    told.add(ran);
  }
  return commands.flatMap((ran) => (told.has(ran) ? [isTooMuch ? inShort(ran) : ran] : []));
}

function runs({ endedAt }: RanCommand): boolean {
  return endedAt === null;
}

function bytesOf(commands: readonly RanCommand[]): number {
  const text = ({ command, dir, state, instance }: RanCommand) => `${command}${dir}${state}${instance}`;
  return commands.reduce((bytes, ran) => bytes + TOLD_AROUND + Buffer.byteLength(text(ran)), 0);
}

function inShort(ran: RanCommand): RanCommand {
  const short = (text: string) => text.slice(0, TOLD_WORDS).toWellFormed();
  return { ...ran, command: short(ran.command), dir: short(ran.dir) };
}

/** What runs those tests that failed, where they are arguments. */
function testsStep({ run, names }: TestsSpec, failed: readonly string[]): Step {
  return { ...run, name: TESTS_STEP, command: [...run.command, ...(names === "args" ? failed : [])] };
}

/** A connection gives a few kilobytes at a time, and every message is work for three programs. */
async function* inMessages(chunks: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let waiting: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    waiting.push(chunk);
    length += chunk.length;
    if (length < MESSAGE) continue;
    yield new Uint8Array(Buffer.concat(waiting));
    waiting = [];
    length = 0;
  }
  if (length > 0) yield new Uint8Array(Buffer.concat(waiting));
}

async function* rest(
  first: Uint8Array,
  parts: AsyncIterator<{ readonly tgz: Uint8Array }>,
): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first;
  for (let part = await parts.next(); !part.done; part = await parts.next()) yield part.value.tgz;
}

function described(ran: RanCommand) {
  return {
    id: String(ran.id),
    gomoteId: ran.instance,
    argv: [ran.command],
    directory: ran.dir,
    started: inSeconds(ran.startedAt),
    ended: inSeconds(ran.endedAt ?? 0),
    processState: ran.state ?? "",
  };
}

function inSeconds(instant: number): bigint {
  return BigInt(Math.floor(instant / 1000));
}
