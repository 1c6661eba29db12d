/** Data of `/people` and `/people/ID`. */
import type { FarmConfig } from "../../config/effective.ts";
import type { EpochMs } from "../../farm/ids.ts";
import { isGood, type MadeToken } from "../../people/people.ts";
import { auditOf } from "../../store/audit.ts";
import { liveInstances } from "../../store/gomote.ts";
import { listPeople, personById, type TokenRow, tokensOf } from "../../store/people.ts";
import type { Sql } from "../../store/sql.ts";
import type { PeopleData } from "../../ui/pages/people.tsx";
import type { PersonData } from "../../ui/pages/person.tsx";
import type { MadeTokenLine, TokenLine } from "../../ui/tokens.tsx";
import { liveLines } from "./gomotes.ts";

const PAGE = 200;
const AUDIT = 50;

export async function peopleData(
  sql: Sql,
  { login }: Pick<FarmConfig, "login">,
  filter: string,
  wanted: number,
  now: EpochMs,
): Promise<PeopleData> {
  const [all, live] = await Promise.all([listPeople(sql, now), liveInstances(sql, null)]);
  const instances = Map.groupBy(live, ({ owner }) => owner);
  const word = filter.toLowerCase();
  const found = all.filter(
    ({ email, roles }) => email.toLowerCase().includes(word) || roles.some((one) => one === word),
  );
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(wanted, pages);
  return {
    people: found
      .slice((page - 1) * PAGE, page * PAGE)
      .map((person) => ({ ...person, instances: instances.get(person.id)?.length ?? 0 })),
    total: all.length,
    page,
    pages,
    filter,
    provider: login?.name ?? null,
  };
}

/** The data of a person's page. `self` is the id of the person who reads it. */
export async function personData(
  sql: Sql,
  id: string,
  self: string | null,
  made: MadeTokenLine | null,
  now: EpochMs,
): Promise<PersonData | undefined> {
  const person = await personById(sql, id);
  if (!person) return undefined;
  const [tokens, live, audit] = await Promise.all([
    tokensOf(sql, person.id),
    liveInstances(sql, person.id),
    auditOf(sql, `person:${person.id}`, AUDIT),
  ]);
  return {
    ...person,
    tokens: tokens.map((token) => tokenLine(token, now)),
    instances: await liveLines(sql, live, now),
    audit: audit.map(({ at, who, action, detail }) => ({ at, who, action, detail })),
    made,
    self: person.id === self,
  };
}

export function tokenLine(token: TokenRow, now: EpochMs): TokenLine {
  const { id, name, begins, madeAt, expiresAt, revokedAt, lastUsedAt } = token;
  return { id, name, begins, madeAt, expiresAt, revokedAt, lastUsedAt, good: isGood(token, now) };
}

/** A new token as the page shows it, once. `original` is the setup of the original command with this token. */
export function madeLine({ id, name, token }: MadeToken, original: string): MadeTokenLine {
  return { id, name, token, original };
}
