/** What the methods of both services say of requests, and write down of them. */
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import type { Person } from "../../farm/person.ts";
import { newAct, recordAudit } from "../../store/audit.ts";
import type { Instance } from "../../store/gomote.ts";
import type { Sql } from "../../store/sql.ts";
import { isRelPath } from "../../wire/buildlet-api/rel-path.ts";

/** Of a detail in the audit. */
const LONGEST = 500;

export type Records = (
  person: Person,
  action: string,
  instance: Pick<Instance, "name">,
  detail: string,
) => Promise<void>;

/** Into the audit: what a person does with an instance. */
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

/** `text` as the database can hold it, and not too long. */
export function auditText(text: string): string {
  return text.slice(0, LONGEST).replaceAll("\0", "\u{fffd}").toWellFormed();
}

/** Throws FarmError `bad-request` with `sentence` unless it holds. */
export function want(holds: boolean, sentence: string): void {
  if (!holds) throw new FarmError("bad-request", sentence);
}

/** Before the machine is asked: what leads out of its work dir goes nowhere. */
export function wantBelow(path: string, { workingDir, name }: Instance): void {
  const windows = /^[A-Za-z]:|\\/.test(workingDir ?? "");
  want(
    isRelPath(path, windows),
    `Cannot use the path ${JSON.stringify(path.slice(0, 200))} on ${name}: want one below its work dir, without ".." that leads out of it.`,
  );
}
