/**
 * Who may borrow a machine: what its host type says, what its owner agrees to, and which roles a person has. All three
 * must agree.
 *
 * The claim of a lease checks `isLent` once more, by a column of the host type that is kept in step with it
 * (store/leases.ts). So nobody gets a machine that is not lent, even if the caller forgot to ask.
 */
import type { Person } from "./person.ts";

/** To whom machines of a host type are lent: people with the role `team` or `operator`, or everybody with a role. */
export type Gomote = "nobody" | "team" | "members";

export interface Lending {
  readonly hostType: string;
  readonly gomote: Gomote;
  /** What the owner of the machines agrees to. */
  readonly lend: { readonly gomote: boolean };
}

/** Whether anybody may borrow machines of this host type. */
export function isLent({ gomote, lend }: Omit<Lending, "hostType">): boolean {
  return lend.gomote && gomote !== "nobody";
}

/** Why `person` may not borrow a machine of this host type, as a sentence. Undefined: they may. */
export function mayNotBorrow({ roles, email }: Pick<Person, "roles" | "email">, host: Lending): string | undefined {
  if (!host.lend.gomote) return `the owner of machines of ${host.hostType} does not lend them to people.`;
  if (host.gomote === "nobody") return `machines of ${host.hostType} are lent to nobody.`;
  const known = host.gomote === "team" ? ["team", "operator"] : ["member", "team", "operator"];
  if (roles.some((role) => known.includes(role))) return undefined;
  const wanted = host.gomote === "team" ? `the role "team"` : `a role such as "member"`;
  return `machines of ${host.hostType} are lent to people with ${wanted}, and ${email} has ${roles.length === 0 ? "none" : `"${roles.join('", "')}"`}. Ask an operator for it.`;
}
