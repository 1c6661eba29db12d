/**
 * Who sees an instance on its page, and what they may do with it there.
 *
 *   its borrower          sees it, uses it (shell, files, more time), destroys it
 *   the machine's owner   sees it with all that is run on it, and may take the machine back
 *   an operator           likewise
 *   anyone logged in      sees only its name, and so who has the machine (/queues, /machines)
 *   everybody else        sees that the machine is lent
 *
 * The owner of a machine and operators see what happens on it. They do not get into another person's shell.
 */
import type { HostConfig } from "../config/effective.ts";
import { FarmError } from "../farm/errors.ts";
import { type Person, unnamed } from "../farm/person.ts";
import type { Instance } from "../store/gomote.ts";

/** The visitor of a page; `operator` has shown the token of the farm. */
export type Visitor =
  | { readonly kind: "nobody" }
  | { readonly kind: "operator" }
  | { readonly kind: "person"; readonly person: Person };

export interface Rights {
  /** Whether they may use it: shell, files, more time. */
  readonly use: boolean;
  /** The role in which they may end it; others learn that somebody in this role did. */
  readonly as: "borrower" | "owner of the machine" | "operator";
}

type Machines = Pick<HostConfig, "hostType" | "owners">;

/** What `visitor` may do with an instance on a machine of `host`; undefined: they do not even see it. */
export function rightsOn(
  visitor: Visitor,
  { owner }: Pick<Instance, "owner">,
  host: Machines | undefined,
): Rights | undefined {
  if (visitor.kind === "person" && visitor.person.id === owner) return { use: true, as: "borrower" };
  if (isOwnerOf(visitor, host)) return { use: false, as: "owner of the machine" };
  return isOperator(visitor) ? { use: false, as: "operator" } : undefined;
}

/**
 * The rights of `visitor` as `rightsOn` says. Throws FarmError `unauthenticated` or `forbidden`, with the reason, when
 * they do not see the instance.
 */
export function rightsOrRefusal(
  visitor: Visitor,
  instance: Pick<Instance, "owner" | "name">,
  host: Machines | undefined,
): Rights {
  const rights = rightsOn(visitor, instance, host);
  if (rights) return rights;
  const name = JSON.stringify(instance.name);
  if (visitor.kind === "nobody")
    throw new FarmError("unauthenticated", `Log in to see ${name}: an instance is shown to whoever borrows it.`);
  throw new FarmError(
    "forbidden",
    `The instance ${name} is somebody else's: it is shown to them, to the owner of its machine and to operators.`,
  );
}

/** Whether `visitor` is shown names of people, and of instances, which begin with the name of their borrower. */
export function hearsNames(visitor: Visitor): boolean {
  return visitor.kind !== "nobody";
}

/** The name of the person who did something, as `visitor` may see it. */
export function actorFor(visitor: Visitor, actor: string): string {
  return hearsNames(visitor) ? actor : unnamed(actor);
}

/** Whether `visitor` may see what people do on machines of this host type. */
export function looksAfter(visitor: Visitor, host: Machines | undefined): boolean {
  return isOperator(visitor) || isOwnerOf(visitor, host);
}

export function isOperator(visitor: Visitor): boolean {
  return visitor.kind === "operator" || (visitor.kind === "person" && visitor.person.roles.includes("operator"));
}

/**
 * Whether `visitor` owns machines of `host`: they logged in with an address that the configuration has for an owner.
 */
function isOwnerOf(visitor: Visitor, host: Machines | undefined): boolean {
  if (visitor.kind !== "person" || !host) return false;
  const email = visitor.person.email.toLowerCase();
  return host.owners.some(({ contact, notify }) => {
    const mails = notify.flatMap((recipient) => (recipient.kind === "mail" ? [recipient.address] : []));
    return [contact.replace(/^mailto:/i, ""), ...mails].some((address) => address.toLowerCase() === email);
  });
}
