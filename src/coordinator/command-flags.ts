/** The flags of `coordinator` that speak to a running one and end. */
import { FarmError } from "../farm/errors.ts";
import { duration, type Flag, type FlagValues, text } from "../farm/flags.ts";
import { type Ms, ms } from "../farm/ids.ts";
import type { Command } from "./remote-control.ts";

export const commandFlags: {
  readonly rebuild: Flag<string>;
  readonly cancel: Flag<string>;
  readonly drain: Flag<string>;
  readonly resume: Flag<string>;
  readonly note: Flag<string>;
  readonly wait: Flag<Ms>;
} = {
  rebuild: text("", "build `number`: build it once more, on the coordinator that runs on -data"),
  cancel: text("", "build `number`: stop it, or do not start it"),
  drain: text(
    "",
    "`what` gets nothing new: a machine, a host type, all (the farm), coordinator (until it is started again)",
  ),
  resume: text("", "`what` gets work again: a machine, a host type, all, coordinator"),
  note: text("", "with -drain: why, for whoever sees it"),
  wait: duration(ms(0), "with -drain: wait at most so long until nothing runs there any more"),
};

/** The command that was given; undefined: none. Throws FarmError when there are several. */
export function commandOf(values: FlagValues<typeof commandFlags>): Command | undefined {
  const given = (["rebuild", "cancel", "drain", "resume"] as const).filter((name) => values[name] !== "");
  if (given.length > 1)
    throw new FarmError("bad-request", `Cannot do -${given.join(" and -")} at once: give one of them`);
  const [what] = given;
  if (values.wait > 0 && what !== "drain") throw new FarmError("bad-request", "Cannot do -wait without -drain");
  if (what === undefined) return undefined;
  if (what === "rebuild" || what === "cancel") return { do: what, build: values[what] };
  return { do: what, target: values[what], note: values.note, waitMs: values.wait };
}
