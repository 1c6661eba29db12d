/** What the methods of both services share: checks of a request, its entry in the audit, and times in an answer. */
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import type { Person } from "../../farm/person.ts";
import { newAct, recordAudit } from "../../store/audit.ts";
import type { Instance } from "../../store/gomote.ts";
import type { Sql } from "../../store/sql.ts";
import { isRelPath } from "../../wire/buildlet-api/rel-path.ts";

/** Characters of a detail in the audit. */
const LONGEST = 500;

export type Records = (
  person: Person,
  action: string,
  instance: Pick<Instance, "name">,
  detail: string,
) => Promise<void>;

/** Records in the audit what a person does with an instance. */
export function recordsOf(sql: Sql, clock: Clock): Records {
  return (person, action, { name }, detail) =>
    recordAudit(sql, {
      ...newAct(clock.now()),
      who: person.email,
      action: `gomote ${action}`,
      subject: `gomote:${name}`,
      detail: auditText(detail),
    });
}

/** `text` as the database can hold it, cut to LONGEST. */
export function auditText(text: string): string {
  return text.slice(0, LONGEST).replaceAll("\0", "\u{fffd}").toWellFormed();
}

/** Throws FarmError `bad-request` with `sentence` unless it holds. */
export function want(holds: boolean, sentence: string): void {
  if (!holds) throw new FarmError("bad-request", sentence);
}

/**
 * Throws FarmError `bad-request` for a path that leads out of the work dir. To be called before the machine is asked.
 */
export function wantBelow(path: string, { workingDir, name }: Instance): void {
  const windows = /^[A-Za-z]:|\\/.test(workingDir ?? "");
  want(
    isRelPath(path, windows),
    `Cannot use the path ${JSON.stringify(path.slice(0, 200))} on ${name}: want one below its work dir, without ".." that leads out of it.`,
  );
}

/** An instant as answers have it: seconds since 1970-01-01 UTC. */
export function unixSeconds(instant: number): bigint {
  return BigInt(Math.floor(instant / 1000));
}
