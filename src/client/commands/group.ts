import { FarmError } from "../../farm/errors.ts";
import { type Command, command } from "../command.ts";
import { type Session, UsageError } from "../session.ts";

export const group: Command = command({
  name: "group",
  summary: "put instances together, so that one command goes to all",
  args: "<create|destroy|add|remove|list> [argument...]",
  help: `create <name>        makes a group
destroy <name>       removes a group; its instances stay
add <instance>...    puts instances into the active group
remove <instance>... takes them out of it
list                 shows all groups

The active group is the one that -group or GOMOTE_GROUP names.`,
  flags: {},
  run: async (session, _, [name = "", ...args]) => {
    const sub = SUBCOMMANDS.get(name);
    if (!sub)
      throw new UsageError(name === "" ? "want one of its commands" : `there is no command ${JSON.stringify(name)}`);
    await sub(session, args);
    return 0;
  },
});

const SUBCOMMANDS: ReadonlyMap<string, (session: Session, args: readonly string[]) => Promise<void>> = new Map([
  ["create", async (session, args) => void (await (await session.groups()).create(oneName(args)))],
  ["destroy", destroyGroup],
  ["add", add],
  ["remove", remove],
  ["list", listGroups],
]);

async function destroyGroup(session: Session, args: readonly string[]): Promise<void> {
  const name = oneName(args);
  const groups = await session.groups();
  if (!(await groups.exists(name))) throw new FarmError("not-found", `Cannot find group ${JSON.stringify(name)}`);
  await groups.destroy(name);
  if (session.computer.env.GOMOTE_GROUP === name) session.output.note("GOMOTE_GROUP still names it: unset it");
}

async function add(session: Session, ids: readonly string[]): Promise<void> {
  const name = await activeGroup(session, ids);
  const client = await session.client();
  const lives = await Promise.all(ids.map((id) => client.alive(id)));
  const missing = ids.find((_, at) => !lives[at]);
  if (missing !== undefined)
    throw new FarmError("not-found", `Cannot add ${JSON.stringify(missing)}: there is no such instance`);
  await (await session.groups()).add(name, ids);
}

async function remove(session: Session, ids: readonly string[]): Promise<void> {
  await (await session.groups()).removeFrom(await activeGroup(session, ids), ids);
}

/** Prints a table whose cells end in TABs. The name stands in the first row of each group. */
async function listGroups(session: Session): Promise<void> {
  const all = await (await session.groups()).all(await session.client());
  const rows = all.flatMap(({ name, instances }) =>
    instances.length === 0 ? [[name, "(none)"]] : instances.map((id, at) => [at === 0 ? name : "", id]),
  );
  const table = [["Name", "Instances"], ...(rows.length === 0 ? [["(none)", ""]] : rows)];
  await session.output.data(table.map((row) => `${row.join("\t")}\t\n`).join(""));
}

async function activeGroup(session: Session, ids: readonly string[]): Promise<string> {
  if (ids.length === 0) throw new UsageError("want instances");
  const active = await session.group();
  if (active) return active.name;
  throw new UsageError("want a group by -group or GOMOTE_GROUP");
}

function oneName([name, ...rest]: readonly string[]): string {
  if (name === undefined || rest.length > 0) throw new UsageError("want the name of one group");
  return name;
}
