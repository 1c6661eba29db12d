/** The flags of `coordinator` that speak to a running one and end. */
import { FarmError } from "../farm/errors.ts";
import { type Flag, text } from "../farm/flags.ts";
import type { Command } from "./remote-control.ts";

export const commandFlags: {
  readonly rebuild: Flag<string>;
  readonly cancel: Flag<string>;
  readonly drain: Flag<string>;
  readonly resume: Flag<string>;
  readonly note: Flag<string>;
} = {
  rebuild: text("", "build `number`: build it once more, on the coordinator that runs on -data"),
  cancel: text("", "build `number`: stop it, or do not start it"),
  drain: text("", "`machine` or host type: give it nothing new"),
  resume: text("", "`machine` or host type: give it work again"),
  note: text("", "with -drain: why, for whoever sees it"),
};

/** The one command that was given, if any. Throws FarmError when there are several. */
export function commandOf(values: { readonly [name in keyof typeof commandFlags]: string }): Command | undefined {
  const given = (["rebuild", "cancel", "drain", "resume"] as const).filter((name) => values[name] !== "");
  if (given.length > 1)
    throw new FarmError("bad-request", `Cannot do -${given.join(" and -")} at once: give one of them`);
  const [what] = given;
  if (what === undefined) return undefined;
  if (what === "rebuild" || what === "cancel") return { do: what, build: values[what] };
  return { do: what, target: values[what], note: values.note };
}
