import { FarmError } from "../../farm/errors.ts";
import { bool, count, text } from "../../farm/flags.ts";
import { type Ms, minutes, seconds } from "../../farm/ids.ts";
import type { BuildStep } from "../../wire/gomote/gen/barnraiser_pb.ts";
import { type Command, command } from "../command.ts";
import { joinPath } from "../path-list.ts";
import { forAll, type Session, UsageError } from "../session.ts";
import { shellLine } from "../shell-line.ts";
import { NotOffered } from "../trouble.ts";
import { type CreateFlags, createAll } from "./create.ts";

/** How long the farm may be away. A coordinator that was stopped comes back, or another takes its place. */
const AWAY_LIMIT: Ms = minutes(5);
const ASK_EVERY: Ms = seconds(5);
/** A call that lasted this long proves that the farm was there: the network cut it. */
const HELD: Ms = seconds(30);

export const repro: Command = command({
  name: "repro",
  summary: "get a machine as a build had it",
  args: "<build>",
  help: `Creates an instance of the type of machine that the build ran on, writes the build's exact sources there, and prints, after its id, the
command that repeats each of its steps, with its environment: a line each, for a shell. -hold keeps the very machine of a build that still
runs, for the case that it fails.

The build is its number, or the address of its page.`,
  flags: {
    hold: bool(false, "wait for the build to fail, and keep its machine as it is then"),
    status: bool(true, "say every few seconds how long one waits, and how many are ahead"),
    count: count(1, "how `many` instances"),
    "new-group": text("", "`name` of a group to make for them"),
    public: bool(true, "for farms of the original: ask for the build without logging in; here one is logged in always"),
  },
  run: async (session, flags, args) => {
    const build = buildOf(args);
    const client = await session.client();
    const layout = await client.ifOffered(`read build ${build}`, (own, options) =>
      own.getBuildLayout({ build }, options),
    );
    if (!layout) throw new NotOffered(`Cannot reproduce a build: ${(await session.server()).name} does not offer that`);
    const ids = flags.hold
      ? [await hold(session, build)]
      : await createAndLayOut(session, layout.builderType, build, flags);
    for (const id of ids) await tell(session, id, layout.environment, layout.steps);
    return 0;
  },
});

function buildOf([given, ...rest]: readonly string[]): bigint {
  const [, number] = /^(?:b|https?:\/\/[^/]+\/b\/)?(\d{1,15})(?:[/?#].*)?$/.exec(given ?? "") ?? [];
  if (number === undefined || rest.length > 0)
    throw new UsageError("want one build: its number, or the address of its page");
  return BigInt(number);
}

async function createAndLayOut(
  session: Session,
  type: string,
  build: bigint,
  flags: CreateFlags,
): Promise<readonly string[]> {
  const ids = await createAll(session, type, [], flags);
  const client = await session.client();
  await forAll(ids, session.computer.signal, async (id, signal) => {
    await client.ifOffered(`lay out build ${build} on ${id}`, async (own) => {
      for await (const { progress } of own.layOutBuild({ gomoteId: id, build }, { signal }))
        note(session, id, progress);
    });
  });
  return ids;
}

/**
 * The instance that the build's machine has become. When a coordinator stops, the next one that answers is asked again.
 * A farm that answers and is away at once, again and again, counts as away all the time.
 */
async function hold(session: Session, build: bigint): Promise<string> {
  const { signal, clock } = session.computer;
  let awaySince: number | undefined;
  let held: string | undefined;
  for (;;) {
    const askedAt = clock.monotonic();
    let isThere = false;
    try {
      held = await askForMachine(session, build, () => {
        isThere = true;
      });
      break;
    } catch (error) {
      if (!(error instanceof FarmError) || error.code !== "unavailable" || signal.aborted) throw error;
      const now = clock.monotonic();
      if (isThere && now - askedAt >= HELD) awaySince = undefined;
      if (awaySince === undefined) session.output.note(`${error.message}; asking again`);
      awaySince ??= now;
      if (now - awaySince >= AWAY_LIMIT) throw error;
      await clock.sleep(ASK_EVERY, signal);
    }
  }
  if (held === undefined)
    throw new NotOffered("Cannot hold a machine: this farm does not offer that; without -hold a fresh one is laid out");
  if (held === "") throw new FarmError("conflict", `Cannot hold the machine of build ${build}: it did not fail`);
  await (await session.groups()).forget([held]);
  await session.output.data(`${held}\n`);
  return held;
}

/** Waits for the machine. `heard` is called whenever the farm says something. */
async function askForMachine(session: Session, build: bigint, heard: () => void): Promise<string | undefined> {
  const client = await session.client();
  const { signal } = session.computer;
  return await client.ifOffered(`hold the machine of build ${build}`, async (own) => {
    let gomoteId = "";
    for await (const message of own.holdBuild({ build }, { signal })) {
      heard();
      if (message.progress !== "") note(session, `build ${build}`, message.progress);
      gomoteId = message.gomoteId || gomoteId;
    }
    return gomoteId;
  });
}

function note(session: Session, what: string, progress: string): void {
  session.output.note(`${what}: ${progress}`);
}

async function tell(
  session: Session,
  id: string,
  environment: readonly string[],
  steps: readonly BuildStep[],
): Promise<void> {
  const failed = steps.filter((step) => step.failed).map(({ name }) => JSON.stringify(name));
  const which = failed.length === 0 ? "none failed" : `${failed.join(", ")} failed`;
  session.output.note(`${id}: the commands repeat the steps of the build; ${which}`);
  const words = await session.serverWords();
  for (const step of steps) await session.output.data(`${stepLine(words, id, environment, step)}\n`);
}

/** The command line that repeats `step` on the instance `id`. */
function stepLine(serverWords: readonly string[], id: string, environment: readonly string[], step: BuildStep): string {
  const flags = [
    ...(step.directory === "" ? [] : [`-dir=${step.directory}`]),
    ...(step.path.length === 0 ? [] : [`-path=${joinPath(step.path)}`]),
    ...[...environment, ...step.environment].flatMap((pair) => ["-e", pair]),
  ];
  return shellLine(["gomote", ...serverWords, "run", ...flags, id, ...step.argv]);
}
