/** The recipients of a message: the owners of a machine's host type, and the operators for everything. */
import type { FarmConfig, Recipient } from "../config/effective.ts";
import type { Trouble } from "./trouble.ts";

/**
 * The key of a recipient in the database. It is looked up in the configuration that is in force when the message is
 * sent.
 */
export function recipientKey(recipient: Recipient): string {
  if (recipient.kind === "mail") return `mail:${recipient.address}`;
  const { url } = recipient;
  if (typeof url === "string") return `webhook:${url}`;
  return "env" in url ? `webhook:env:${url.env}` : `webhook:file:${url.file}`;
}

/** What people may read of a recipient, without the path of a webhook, which is often a secret. */
export function recipientLabel(key: string): string {
  if (key.startsWith("mail:")) return key.slice("mail:".length);
  return key.slice("webhook:".length).replace(/^(https?:\/\/[^/?#]*).+$/, "$1/…");
}

export function recipientsOf(trouble: Trouble, farm: Pick<FarmConfig, "hosts" | "notify">): readonly Recipient[] {
  const { hostType } = trouble.about;
  const owners = farm.hosts.find((host) => host.hostType === hostType)?.owners ?? [];
  return distinct([...owners.flatMap((owner) => owner.notify), ...farm.notify.operators]);
}

export function everyRecipient(farm: Pick<FarmConfig, "hosts" | "notify">): readonly Recipient[] {
  const owners = farm.hosts.flatMap((host) => host.owners);
  return distinct([...farm.notify.operators, ...owners.flatMap((owner) => owner.notify)]);
}

function distinct(recipients: readonly Recipient[]): readonly Recipient[] {
  return [...new Map(recipients.map((recipient) => [recipientKey(recipient), recipient])).values()];
}
