/**
 * Step 0 of an attempt, which is the farm's own: it empties the machine, and writes what is to be built, or what was
 * built before (snapshots.ts).
 *
 *   source -a snapshot is there-> snapshot    the step is called so, and the steps that make the tree have no rows
 *   snapshot -it is damaged-> source          and the steps have their rows again
 */
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";
import { tookLonger, within } from "../farm/within.ts";
import type { LogWriter } from "../logs/writer.ts";
import type { Begun } from "../store/attempts.ts";
import type { Snapshot } from "../store/snapshots.ts";
import type { BuildMachine } from "./machine.ts";
import { saidWait } from "./said-wait.ts";
import { keeps, type Snapshots } from "./snapshots.ts";
import { askedAhead, headline, type SourcesDeps, skippedText, writeSources } from "./sources.ts";
import { Supply } from "./supply.ts";

const CLEAN_LIMIT: Ms = minutes(10);
/** How long the source may take to be available and on the machine, unless its builder has a limit of its own. */
export const SOURCE_UPLOAD_LIMIT: Ms = minutes(30);

export interface SourceDeps extends Omit<SourcesDeps, "say"> {
  /** The emptying of the machine; undefined: it has not begun yet. */
  readonly cleaning: Promise<void> | undefined;
  readonly snapshots: Pick<Snapshots, "find" | "about" | "restore">;
  /** Stores the rows of the attempt's steps, which begin with this step 0. Throws `lease-lost`. */
  readonly layOut: (from: "source" | "snapshot") => Promise<void>;
}

/** What the step waits for. */
export interface SourceWait {
  readonly what: string;
  /** Whether the machine is what takes so long at present. */
  readonly isForMachine: () => boolean;
}

/** Called with each wait that begins. */
type Waits = (wait: SourceWait) => void;

const DATABASE: SourceWait = { what: "the database", isForMachine: () => false };

/** Empties the machine, which also ends all that the farm runs on it. */
export function clean(clock: Clock, machine: BuildMachine, signal: AbortSignal): Promise<void> {
  return within(clock, CLEAN_LIMIT, [machine.gone, signal], `cleaning ${machine.name}`, (limited) =>
    machine.client.cleanUp(limited),
  );
}

/**
 * Runs step 0 from its beginning, whatever is on the machine. Resolves with what is there after it: the source, or the
 * made tree.
 */
export async function runSourceStep(
  deps: SourceDeps,
  begun: Begun,
  machine: BuildMachine,
  writer: LogWriter,
  waits: Waits,
  signal: AbortSignal,
): Promise<"source" | "snapshot"> {
  const { clock, cleaning } = deps;
  const { build, hash, recipe } = begun;
  const say = (line: string): Promise<void> => writer.write(Buffer.from(`${line}\n`));
  const anew = writer.next > 0;
  if (anew) await say(`\nbegun anew: nobody was left who wrote the source to ${machine.name}`);
  const tree = { repo: build.repo, hash };
  await say(`${headline(recipe, tree)}\n`);
  const cleaned = `${machine.name} to be cleaned`;
  waits({ what: cleaned, isForMachine: () => true });
  const emptying = cleaning ?? clean(clock, machine, signal);
  // A snapshot may make the tarball needless: then it is not asked for ahead.
  using ahead = keeps(recipe) ? undefined : askedAhead(deps.tarball, tree, signal);
  await saidWait(clock, writer, cleaned, emptying);
  waits(DATABASE);
  const snapshot = await deps.snapshots.find(begun);
  signal.throwIfAborted();
  if (snapshot && (await restored(deps, snapshot, begun, machine, writer, waits, signal))) return "snapshot";
  waits(DATABASE);
  if (snapshot || (anew && keeps(recipe))) await deps.layOut("source");
  const limit = ms(recipe.limits?.uploadMs ?? SOURCE_UPLOAD_LIMIT);
  const what = `writing ${build.repo} to ${machine.name}`;
  const supply = new Supply(ahead?.tarball ?? deps.tarball);
  const late = (): FarmError => (supply.isAwaited ? notInTime(what, limit) : tookLonger(what, limit));
  const written = within(clock, limit, [machine.gone, signal], late, (limited) =>
    writeSources({ ...deps, tarball: supply.tarball, say }, tree, recipe, machine, limited),
  );
  const there = `the source of ${build.repo} to be on ${machine.name}`;
  waits({ what: there, isForMachine: () => !supply.isAwaited });
  await saidWait(clock, writer, there, written);
  return "source";
}

function notInTime(what: string, limit: Ms): FarmError {
  return new FarmError("unavailable", `source not available: ${tookLonger(what, limit).message}`);
}

/** Writes a snapshot to the machine. False: it could not be used, and the log says why. */
async function restored(
  { clock, snapshots, layOut }: SourceDeps,
  snapshot: Snapshot,
  { recipe }: Begun,
  machine: BuildMachine,
  writer: LogWriter,
  waits: Waits,
  signal: AbortSignal,
): Promise<boolean> {
  const say = (line: string): Promise<void> => writer.write(Buffer.from(`${line}\n`));
  await layOut("snapshot");
  await say(snapshots.about(snapshot));
  const began = clock.monotonic();
  const there = `the snapshot to be on ${machine.name}`;
  waits({ what: there, isForMachine: () => true });
  const end = await saidWait(clock, writer, there, snapshots.restore(snapshot, recipe, machine, signal));
  if ("bad" in end) {
    await say(`not used: ${end.bad}; the steps are done on ${machine.name} instead\n`);
    return false;
  }
  await say(`unpacked on ${machine.name} in ${durationText(ms(clock.monotonic() - began))}`);
  if (end.skippedLinks > 0) await say(skippedText(end.skippedLinks, machine.name));
  return true;
}
