/**
 * People and the tokens of their programs.
 *
 * A person exists until `removedAt`; the row stays for the audit. A token is valid from `madeAt` until it expires or is
 * revoked, whichever comes first, and only while its person exists. Of the token itself only a SHA-256 is stored.
 */
import type { EpochMs, PersonId } from "../farm/ids.ts";
import type { Role } from "../farm/person.ts";
import { at, type Sql } from "./sql.ts";

export interface PersonRow {
  readonly id: PersonId;
  readonly email: string;
  readonly roles: readonly Role[];
  readonly createdAt: EpochMs;
}

export interface TokenRow {
  readonly id: string;
  readonly personId: PersonId;
  readonly name: string;
  readonly begins: string;
  readonly madeAt: EpochMs;
  readonly expiresAt: EpochMs;
  readonly revokedAt: EpochMs | null;
  readonly lastUsedAt: EpochMs | null;
}

const PERSON = `p.id, p.email, p.roles, p.created_at as "createdAt"`;
const TOKEN = `t.id, t.person_id as "personId", t.name, t.begins, t.made_at as "madeAt", t.expires_at as "expiresAt",
  t.revoked_at as "revokedAt", t.last_used_at as "lastUsedAt"`;

/** Returns the person who has the address now: `person`, or somebody who had it before. */
export async function insertPerson(sql: Sql, person: PersonRow): Promise<PersonRow | undefined> {
  const { id, email, roles, createdAt } = person;
  await sql.query(
    "insert into person (id, email, roles, created_at) values ($1, $2, $3, $4) on conflict (lower(email)) where removed_at is null do nothing",
    [id, email, roles, at(createdAt)],
  );
  return personByEmail(sql, email);
}

export async function personByEmail(sql: Sql, email: string): Promise<PersonRow | undefined> {
  const [row] = await sql.query<PersonRow>(
    `select ${PERSON} from person p where lower(p.email) = lower($1) and p.removed_at is null`,
    [email],
  );
  return row;
}

export async function personById(sql: Sql, id: string): Promise<PersonRow | undefined> {
  const [row] = await sql.query<PersonRow>(`select ${PERSON} from person p where p.id = $1 and p.removed_at is null`, [
    id,
  ]);
  return row;
}

export interface PersonLine extends PersonRow {
  /** The number of valid tokens. */
  readonly tokens: number;
  readonly lastUsedAt: EpochMs | null;
}

export async function listPeople(sql: Sql, now: EpochMs): Promise<PersonLine[]> {
  return await sql.query<PersonLine>(
    `select ${PERSON}, count(t.id) filter (where t.revoked_at is null and t.expires_at > $1)::int as tokens, max(t.last_used_at) as "lastUsedAt"
     from person p left join api_token t on t.person_id = p.id
     where p.removed_at is null group by p.id order by lower(p.email)`,
    [at(now)],
  );
}

/** A person, also one who was removed. */
export type PersonOnce = Pick<PersonRow, "id" | "email" | "roles"> & { readonly removed: boolean };

/** Those of `ids` that exist or existed. */
export async function peopleOf(sql: Sql, ids: readonly PersonId[]): Promise<PersonOnce[]> {
  return await sql.query<PersonOnce>(
    "select id, email, roles, removed_at is not null as removed from person where id = any ($1::text[]) order by id",
    [ids],
  );
}

export async function setRoles(sql: Sql, id: PersonId, roles: readonly Role[]): Promise<void> {
  await sql.query("update person set roles = $2 where id = $1 and removed_at is null", [id, roles]);
}

export async function removePerson(sql: Sql, id: PersonId, now: EpochMs): Promise<void> {
  await sql.query("update person set removed_at = $2 where id = $1 and removed_at is null", [id, at(now)]);
}

export interface NewToken {
  readonly id: string;
  readonly personId: PersonId;
  readonly name: string;
  readonly sha256: Buffer;
  readonly begins: string;
  readonly madeAt: EpochMs;
  readonly expiresAt: EpochMs;
}

export async function insertToken(sql: Sql, token: NewToken): Promise<void> {
  await sql.query(
    `insert into api_token (id, person_id, name, sha256, begins, made_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing`,
    [token.id, token.personId, token.name, token.sha256, token.begins, at(token.madeAt), at(token.expiresAt)],
  );
}

/** A token and its owner. `removedAt`: the owner was removed. */
export interface FoundToken extends TokenRow {
  readonly sha256: Buffer;
  readonly email: string;
  readonly roles: readonly Role[];
  readonly removedAt: EpochMs | null;
}

export async function tokenBySha256(sql: Sql, sha256: Buffer): Promise<FoundToken | undefined> {
  const [row] = await sql.query<FoundToken>(
    `select ${TOKEN}, t.sha256, p.email, p.roles, p.removed_at as "removedAt"
     from api_token t join person p on p.id = t.person_id where t.sha256 = $1`,
    [sha256],
  );
  return row;
}

/** Why the token of this number cannot be used. Undefined: it can. */
export async function whyTokenEnded(sql: Sql, id: string, now: EpochMs): Promise<"revoked" | "expired" | undefined> {
  const [row] = await sql.query<{ revoked: boolean; expired: boolean }>(
    `select t.revoked_at is not null or p.removed_at is not null as revoked, t.expires_at <= $2 as expired
     from api_token t join person p on p.id = t.person_id where t.id = $1`,
    [id, at(now)],
  );
  if (!row || row.revoked) return "revoked";
  return row.expired ? "expired" : undefined;
}

/** The tokens of a person, newest first. */
export async function tokensOf(sql: Sql, person: PersonId): Promise<TokenRow[]> {
  return await sql.query<TokenRow>(
    `select ${TOKEN} from api_token t where t.person_id = $1 order by t.made_at desc, t.id`,
    [person],
  );
}

/** Revokes a token, or finds it revoked, and returns its owner. Undefined: `of` has no such token. */
export async function revokeToken(
  sql: Sql,
  id: string,
  of: PersonId | null,
  now: EpochMs,
): Promise<{ readonly personId: PersonId } | undefined> {
  const [row] = await sql.query<{ personId: PersonId }>(
    `update api_token set revoked_at = coalesce(revoked_at, $3) where id = $1 and ($2::text is null or person_id = $2)
     returning person_id as "personId"`,
    [id, of, at(now)],
  );
  return row;
}

export async function revokeTokensOf(sql: Sql, person: PersonId, now: EpochMs): Promise<void> {
  await sql.query("update api_token set revoked_at = $2 where person_id = $1 and revoked_at is null", [
    person,
    at(now),
  ]);
}

export async function tokenUsed(sql: Sql, id: string, now: EpochMs): Promise<void> {
  await sql.query("update api_token set last_used_at = greatest(last_used_at, $2) where id = $1", [id, at(now)]);
}
