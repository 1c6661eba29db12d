/**
 * A person who uses the farm: a mail address and what they may do.
 *
 * Upper and lower case of a mail address make no difference. Names that people see and type (of an instance, of a file)
 * begin with the part before its last `@`. Two people may share that part, so nothing is decided by it.
 */
import type { PersonId } from "./ids.ts";

/**
 * What a person may do beyond reading, which everybody may. `operator`: everything that a button of a page does. `team`
 * and `member`: borrow the machines that their host types lend to the team, or to members.
 */
export const ROLES = ["operator", "team", "member"] as const;
export type Role = (typeof ROLES)[number];

export interface Person {
  readonly id: PersonId;
  readonly email: string;
  /** The part of the address before its last `@`. */
  readonly name: string;
  /** In the order of ROLES, without repetition. */
  readonly roles: readonly Role[];
}

/** `actor`, a person's address or a part of the farm, as everybody may read it: without naming people. */
export function unnamed(actor: string): string {
  return actor.includes("@") ? "a user" : actor;
}

/** The part of `email` before its last `@`. "" when one of the two parts is empty. */
export function userName(email: string): string {
  const at = email.lastIndexOf("@");
  return at > 0 && at < email.length - 1 ? email.slice(0, at) : "";
}
