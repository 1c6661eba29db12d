/**
 * What all coordinators of a farm must have alike, and how a difference is noticed.
 *
 * Each coordinator writes fingerprints of what it has into its row. The coordinator that checks the farm's health
 * compares them. A fingerprint is made by scrypt, since a master key may be a word that a person chose: a reader of the
 * database must not be able to try words quickly. Different configurations are normal while a change is rolled out, so
 * they are a warning. Different secrets are a mistake.
 */
import { scryptSync } from "node:crypto";
import type { LivingCoordinator } from "../store/coordinators.ts";
import type { CheckLine, CheckResult } from "../web/deps.ts";

/** Names -> what is wrong when two coordinators differ in it, and what to do. */
const SHARED: Readonly<Record<string, { readonly level: CheckLine["level"]; readonly consequence: string }>> = {
  "master key": {
    level: "error",
    consequence:
      "a machine that one of them lets in is refused by another; give all the same -secrets folder or -masterkey",
  },
  "operator token": {
    level: "error",
    consequence: "a login at one of them is none at another; give all the same -secrets folder",
  },
  "CA certificate": {
    level: "error",
    consequence:
      "a machine that trusts one of them refuses another; give all the same -secrets folder, or -tls-cert and -tls-key",
  },
  configuration: {
    level: "warn",
    consequence:
      "each plans builds by its own; give all the same configuration file, and SIGHUP to those that do not watch it",
  },
};

/** The fingerprint of `content`, which is `what`: 16 hex digits. Takes about 50 ms, on purpose. */
export function fingerprint(what: string, content: string): string {
  return scryptSync(content, `barnraiser ${what}`, 8).toString("hex");
}

/** The check of the coordinators that live. It has no lines when there is only one, or when they agree. */
export function coordinatorCheck(living: readonly LivingCoordinator[]): CheckResult {
  const lines: CheckLine[] = [];
  for (const [what, { level, consequence }] of Object.entries(SHARED)) {
    const groups = Map.groupBy(living, ({ shared }) => shared?.[what]);
    groups.delete(undefined); // an older program, or one that is just starting
    if (groups.size < 2) continue;
    const sides = [...groups.values()].map((side) => side.map(({ id, host }) => `${id} on ${host}`).join(", "));
    lines.push({ level, text: `The ${what} of ${sides.join(" differs from that of ")}: ${consequence}` });
  }
  const versions = new Set(living.map(({ version }) => version));
  if (versions.size > 1)
    lines.push({
      level: "info",
      text: `Versions ${[...versions].join(" and ")} run beside each other: upgrade the rest`,
    });
  return { id: "coordinators", title: "Coordinators", lines };
}
