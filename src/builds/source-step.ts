/** What the farm itself does on a machine before a build's own commands: empty it, and write what is to be built. */
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";
import type { Begun } from "../store/attempts.ts";
import type { BuildMachine } from "./machine.ts";
import { saidWait } from "./said-wait.ts";
import { headline, type SourcesDeps, writeSources } from "./sources.ts";
import { within } from "./within.ts";

export const CLEAN_LIMIT: Ms = minutes(10);
/** For the source to be there and on the machine, where the builder has no limit of its own. */
export const UPLOAD_LIMIT: Ms = minutes(30);

export type SourceDeps = Omit<SourcesDeps, "say">;

/** The first call on a machine; to be started as soon as a machine is claimed. A rejection may be left unheard. */
export function clean(clock: Clock, machine: BuildMachine, signal: AbortSignal): Promise<void> {
  const cleaned = within(clock, CLEAN_LIMIT, [machine.gone, signal], `cleaning ${machine.name}`, (limited) =>
    machine.client.removeAll(["."], limited),
  );
  cleaned.catch(() => {});
  return cleaned;
}

/** Step `source`, from its beginning, on a machine that `cleaned` is emptying. */
export async function runSourceStep(
  { clock, tarball }: SourceDeps,
  { build, hash, recipe }: Begun,
  machine: BuildMachine,
  cleaned: Promise<void>,
  writer: LogWriter,
  signal: AbortSignal,
): Promise<void> {
  const say = (line: string): Promise<void> => writer.write(Buffer.from(`${line}\n`));
  if (writer.next > 0) await say(`\nbegun anew: nobody was left who wrote the source to ${machine.name}`);
  const tree = { repo: build.repo, hash };
  await say(`${headline(recipe, tree)}\n`);
  await saidWait(clock, writer, `${machine.name} to be cleaned`, cleaned);
  const limit = ms(recipe.limits?.uploadMs ?? UPLOAD_LIMIT);
  const what = `writing ${build.repo} to ${machine.name}`;
  const written = within(clock, limit, [machine.gone, signal], what, (limited) =>
    writeSources({ clock, tarball, say }, tree, recipe, machine, limited),
  );
  await saidWait(clock, writer, `the source of ${build.repo} to be on ${machine.name}`, written);
}
