import { bool, count, formatDuration, text } from "../../farm/flags.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { broadcast, outputFolder } from "../broadcast.ts";
import { type Command, command } from "../command.ts";
import type { Command as RemoteCommand } from "../farm-client.ts";
import { findTree } from "../push/local-tree.ts";
import { forAll, type Session, UsageError } from "../session.ts";
import { pushTo } from "./push.ts";

const HARDLY_WAITED: Ms = seconds(1);

export const create: Command = command({
  name: "create",
  summary: "get machines of a type for yourself",
  args: "<builder type>",
  help: `Waits for a machine of the type, and prints the id of the instance that it is then. -list prints the types that there are.
Instances join the new group, else the active one; a group that only GOMOTE_GROUP names is made.`,
  flags: {
    list: bool(false, "print the builder types and end"),
    status: bool(true, "say every few seconds how long one waits, and how many are ahead"),
    count: count(1, "how `many` instances"),
    setup: bool(false, "push the repository (see push), and build it when it is Go's"),
    "new-group": text("", "`name` of a group to make for them"),
    "use-golangbuild": bool(true, "for farms of the original: prepare the machine as a build does"),
  },
  run: async (session, flags, args) => {
    const client = await session.client();
    if (flags.list) {
      for (const type of await client.builderTypes()) await session.output.data(`${type}\n`);
      return 0;
    }
    const [type] = args;
    if (type === undefined || args.length > 1) throw new UsageError("want one builder type; -list shows them");
    if (flags.count === 0) throw new UsageError("want a -count of at least 1");
    const experiments = flags["use-golangbuild"] ? [] : ["disable-golang-build"];
    const tree = flags.setup
      ? await findTree({ from: "", dir: "" }, session.computer.cwd, session.computer.env)
      : undefined;
    const ids = await createAll(session, type, experiments, flags);
    if (tree === undefined) return 0;
    await pushTo(session, tree, ids, false);
    if (tree.isGo) return await buildGo(session, type, ids);
    return 0;
  },
});

export interface CreateFlags {
  readonly status: boolean;
  readonly count: number;
  readonly "new-group": string;
}

/** Creates instances. Ids are printed as they come, and join their group even when a later instance fails. */
export async function createAll(
  session: Session,
  type: string,
  experiments: readonly string[],
  flags: CreateFlags,
): Promise<readonly string[]> {
  const { clock, signal } = session.computer;
  const client = await session.client();
  const groups = await session.groups();
  const group = await groupFor(session, flags["new-group"]);
  const began = clock.monotonic();
  const ordinals = Array.from({ length: flags.count }, (_, at) => String(at + 1));
  return await forAll(ordinals, signal, async (ordinal, stop) => {
    const waiting = (ahead: number) => {
      const passed = clock.monotonic() - began;
      // The first in line usually gets its machine in a moment.
      if (!flags.status || (ahead === 0 && passed < HARDLY_WAITED)) return;
      const waited = formatDuration(seconds(Math.round(passed / 1000)));
      session.output.note(`still creating ${type} (${ordinal}) after ${waited}; ${ahead} ahead of it`);
    };
    const { gomoteId } = await client.create(type, experiments, waiting, stop);
    // The id may have belonged to another instance before.
    await groups.forget([gomoteId]);
    if (group !== undefined) await groups.add(group, [gomoteId]);
    await session.output.data(`${gomoteId}\n`);
    return gomoteId;
  });
}

async function groupFor(session: Session, newGroup: string): Promise<string | undefined> {
  const groups = await session.groups();
  if (newGroup !== "") return (await groups.create(newGroup)).name;
  const name = session.groupName;
  if (name === "") return undefined;
  if (!(await groups.exists(name))) await groups.create(name);
  return name;
}

async function buildGo(session: Session, type: string, ids: readonly string[]): Promise<number> {
  const folder = await outputFolder(session);
  const plain: RemoteCommand = {
    command: `go/src/make.${type.includes("windows") ? "bat" : "bash"}`,
    args: [],
    directory: "",
    systemLevel: false,
    debug: false,
    imitateHostType: "",
    appendEnvironment: [],
    path: [],
  };
  // The ids alone are on stdout, for programs.
  const showing = ids.length === 1 ? "as it is" : "not";
  session.output.note(`building Go; output goes to ${folder}`);
  const outcomes = await broadcast(session, ids, folder, plain, showing);
  const failed = outcomes.filter(({ failure }) => failure);
  for (const { id, failure, file } of failed)
    session.output.note(`${id}: ${plain.command}: ${failure?.message}; see ${file}`);
  if (!type.includes("-perf_vs_")) return failed.length === 0 ? 0 : 1;
  for (const step of [
    { ...plain, command: "go/bin/go", args: ["build", "./cmd/sweet"], directory: "benchmarks/sweet" },
    { ...plain, command: "benchmarks/sweet/sweet", args: ["get"] },
  ]) {
    const done = await broadcast(session, ids, folder, step, showing);
    if (done.some(({ failure }) => failure)) return 1;
  }
  return 0;
}
