/**
 * Browser sessions of people, and programs that ask for a person's permission (people/logins.ts, people/devices.ts).
 */
import type { EpochMs, PersonId } from "../farm/ids.ts";
import type { PersonRow } from "./people.ts";
import { at, type Sql } from "./sql.ts";

export interface NewSession {
  readonly sha256: Buffer;
  readonly personId: PersonId;
  readonly tokenId: string | null;
  readonly madeAt: EpochMs;
  readonly expiresAt: EpochMs;
}

export async function insertBrowserSession(sql: Sql, session: NewSession): Promise<void> {
  await sql.query(
    `insert into browser_session (sha256, person_id, token_id, made_at, expires_at) values ($1, $2, $3, $4, $5)
     on conflict (sha256) do nothing`,
    [session.sha256, session.personId, session.tokenId, at(session.madeAt), at(session.expiresAt)],
  );
}

/** The person who is signed in, and how long their token allows it at most, if they signed in with one. */
export interface SignedIn extends PersonRow {
  readonly until: EpochMs | null;
}

export async function signedIn(sql: Sql, sha256: Buffer, now: EpochMs): Promise<SignedIn | undefined> {
  const [row] = await sql.query<SignedIn>(
    `select p.id, p.email, p.roles, p.created_at as "createdAt", t.expires_at as until
     from browser_session s join person p on p.id = s.person_id left join api_token t on t.id = s.token_id
     where s.sha256 = $1 and s.expires_at > $2 and p.removed_at is null
       and (s.token_id is null or (t.revoked_at is null and t.expires_at > $2))`,
    [sha256, at(now)],
  );
  return row;
}

export interface SignedOut extends Pick<PersonRow, "id" | "email"> {
  /** True: they signed in by a login provider. False: with a token. */
  readonly openid: boolean;
}

/** Ends a browser session and returns the person who was signed in. Undefined: there was no such session. */
export async function deleteBrowserSession(sql: Sql, sha256: Buffer): Promise<SignedOut | undefined> {
  const [row] = await sql.query<SignedOut>(
    `delete from browser_session s using person p where s.sha256 = $1 and p.id = s.person_id
     returning p.id, p.email, s.token_id is null as openid`,
    [sha256],
  );
  return row;
}

/** Signs somebody out everywhere, and takes back permissions that no program has fetched yet. */
export async function deleteLoginsOf(sql: Sql, person: PersonId): Promise<void> {
  await sql.query(
    `with browsers as (delete from browser_session where person_id = $1)
     delete from device_login where person_id = $1`,
    [person],
  );
}

/**
 * Ties a person to `openid`, their account at the login provider, if they have none yet. Returns the account they have.
 */
export async function bindOpenid(sql: Sql, person: PersonId, openid: string): Promise<string | undefined> {
  const [row] = await sql.query<{ openid: string }>(
    "update person set openid = coalesce(openid, $2) where id = $1 and removed_at is null returning openid",
    [person, openid],
  );
  return row?.openid;
}

export interface NewDevice {
  readonly sha256: Buffer;
  readonly userCode: string;
  readonly program: string;
  readonly address: string;
  readonly askedAt: EpochMs;
  readonly expiresAt: EpochMs;
  readonly intervalMs: number;
}

/** False: another program uses this user code at the moment. */
export async function insertDevice(sql: Sql, device: NewDevice): Promise<boolean> {
  const rows = await sql.query(
    `insert into device_login (sha256, user_code, program, address, asked_at, expires_at, interval_ms)
     values ($1, $2, $3, $4, $5, $6, $7)
     on conflict (user_code) do update set user_code = excluded.user_code where device_login.sha256 = excluded.sha256
     returning 1`,
    [
      device.sha256,
      device.userCode,
      device.program,
      device.address,
      at(device.askedAt),
      at(device.expiresAt),
      device.intervalMs,
    ],
  );
  return rows.length > 0;
}

export interface AskingDevice {
  readonly userCode: string;
  readonly program: string;
  readonly address: string;
  readonly askedAt: EpochMs;
  readonly expiresAt: EpochMs;
}

const ASKING = `user_code as "userCode", program, address, asked_at as "askedAt", expires_at as "expiresAt"`;

/** The program that asks with this code, while nobody has answered. */
export async function askingDevice(sql: Sql, userCode: string, now: EpochMs): Promise<AskingDevice | undefined> {
  const [row] = await sql.query<AskingDevice>(
    `select ${ASKING} from device_login where user_code = $1 and allowed is null and expires_at > $2`,
    [userCode, at(now)],
  );
  return row;
}

/**
 * Stores the answer and returns the program. Undefined: no program asks with this code, or somebody else has answered.
 */
export async function answerDevice(
  sql: Sql,
  userCode: string,
  answer: { readonly person: PersonId; readonly allowed: boolean; readonly until: EpochMs | null },
  now: EpochMs,
): Promise<AskingDevice | undefined> {
  const [row] = await sql.query<AskingDevice>(
    `update device_login set person_id = $2, allowed = $3, until = $4
     where user_code = $1 and expires_at > $5 and (allowed is null or (person_id = $2 and allowed = $3)) returning ${ASKING}`,
    [userCode, answer.person, answer.allowed, at(answer.until), at(now)],
  );
  return row;
}

export interface PolledDevice {
  readonly program: string;
  readonly expiresAt: EpochMs;
  readonly intervalMs: number;
  readonly allowed: boolean | null;
  readonly until: EpochMs | null;
  /** The time of its previous question. */
  readonly before: EpochMs | null;
  readonly person: PersonRow | null;
}

/** A program asks for the answer to its login. Undefined: there is no such login. */
export async function pollDevice(sql: Sql, sha256: Buffer, now: EpochMs): Promise<PolledDevice | undefined> {
  const [row] = await sql.query<Omit<PolledDevice, "person"> & Partial<PersonRow>>(
    `with old as (select * from device_login where sha256 = $1 for update),
       polled as (update device_login d set polled_at = $2 from old where d.sha256 = old.sha256)
     select old.program, old.expires_at as "expiresAt", old.interval_ms as "intervalMs", old.allowed, old.until, old.polled_at as before,
       p.id, p.email, p.roles, p.created_at as "createdAt"
     from old left join person p on p.id = old.person_id and p.removed_at is null`,
    [sha256, at(now)],
  );
  if (!row) return undefined;
  const { id, email, roles, createdAt, ...rest } = row;
  return { ...rest, person: id && email && roles && createdAt ? { id, email, roles, createdAt } : null };
}

/** Makes a program that asks too often wait longer between two questions. */
export async function slowDevice(sql: Sql, sha256: Buffer, intervalMs: number): Promise<void> {
  await sql.query("update device_login set interval_ms = $2 where sha256 = $1", [sha256, intervalMs]);
}

/** True for exactly one of the calls that fetch an answer. */
export async function takeDevice(sql: Sql, sha256: Buffer): Promise<boolean> {
  const rows = await sql.query("delete from device_login where sha256 = $1 returning 1", [sha256]);
  return rows.length > 0;
}
