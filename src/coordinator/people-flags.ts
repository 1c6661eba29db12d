/** The flags of `coordinator` that are about people: they speak to a running one and end. */
import { FarmError } from "../farm/errors.ts";
import { bool, duration, type Flag, type FlagValues, text } from "../farm/flags.ts";
import type { Ms } from "../farm/ids.ts";
import { TOKEN_KEPT } from "../people/people.ts";
import { commandFlags } from "./command-flags.ts";

export const peopleFlags: {
  readonly "add-user": Flag<string>;
  readonly "set-roles": Flag<string>;
  readonly "remove-user": Flag<string>;
  readonly "list-users": Flag<boolean>;
  readonly "new-token": Flag<string>;
  readonly "gomote-env": Flag<string>;
  readonly "list-tokens": Flag<string>;
  readonly "revoke-token": Flag<string>;
  readonly roles: Flag<string>;
  readonly name: Flag<string>;
  readonly expires: Flag<Ms>;
} = {
  "add-user": text("", "`email`: somebody who may borrow machines or, with -roles operator, run the farm"),
  "set-roles": text("", "`email`: has the roles of -roles from now on, and no other"),
  "remove-user": text("", "`email`: no user any more; their tokens are revoked, and what they hold is ended"),
  "list-users": bool(false, "print all users"),
  "new-token": text("", "`email`: print a new token of this user; it is shown this once"),
  "gomote-env": text(
    "",
    "`email`: print what the original gomote command needs in its environment, with a new token of this user",
  ),
  "list-tokens": text("", "`email`: print the tokens of this user"),
  "revoke-token": text("", "`id`: this token is good no more"),
  roles: text("", "with -add-user and -set-roles: `roles` with commas between: operator, team, member"),
  name: text("", "with -new-token and -gomote-env: the `name` by which it is known in lists"),
  expires: duration(TOKEN_KEPT, "with -new-token and -gomote-env: how long it is good"),
};

const COMMANDS = [
  "add-user",
  "set-roles",
  "remove-user",
  "list-users",
  "new-token",
  "gomote-env",
  "list-tokens",
  "revoke-token",
] as const;

export type PeopleCommand =
  | { readonly do: "add-user" | "set-roles"; readonly email: string; readonly roles: string }
  | { readonly do: "remove-user" | "list-tokens"; readonly email: string }
  | { readonly do: "list-users" }
  | { readonly do: "new-token" | "gomote-env"; readonly email: string; readonly name: string; readonly expires: Ms }
  | { readonly do: "revoke-token"; readonly id: string };

/** Flags that go with some commands only -> these commands. */
const BESIDE = {
  roles: ["add-user", "set-roles"],
  name: ["new-token", "gomote-env"],
  expires: ["new-token", "gomote-env"],
} as const;

/**
 * The command about people that was given; undefined: none. `given`: all flags that were given. Throws FarmError when
 * they do not go together.
 */
export function peopleCommandOf(
  values: FlagValues<typeof peopleFlags>,
  given: ReadonlySet<string>,
): PeopleCommand | undefined {
  const [what, ...others] = COMMANDS.filter((name) => given.has(name));
  const more = [...others, ...Object.keys(commandFlags).filter((name) => given.has(name))];
  if (what !== undefined && more.length > 0)
    throw new FarmError("bad-request", `Cannot do -${[what, ...more].join(" and -")} at once: give one of them`);
  for (const [flag, commands] of Object.entries(BESIDE)) {
    if (given.has(flag) && !commands.some((command) => command === what))
      throw new FarmError("bad-request", `Cannot use -${flag} without -${commands.join(" or -")}`);
  }
  switch (what) {
    case undefined:
      return undefined;
    case "add-user":
    case "set-roles":
      if (what === "set-roles" && !given.has("roles"))
        throw new FarmError("bad-request", 'Cannot do -set-roles without -roles; -roles "" takes all away');
      return { do: what, email: values[what], roles: values.roles };
    case "remove-user":
    case "list-tokens":
      return { do: what, email: values[what] };
    case "list-users":
      return { do: what };
    case "new-token":
    case "gomote-env": {
      const name = values.name || (what === "gomote-env" ? "the original gomote" : "made by the operator");
      return { do: what, email: values[what], name, expires: values.expires };
    }
    case "revoke-token":
      return { do: what, id: values[what] };
  }
}
