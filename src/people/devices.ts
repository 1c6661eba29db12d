/**
 * Lets in a program that has no browser (RFC 8628). The program shows a short code, and a person who is signed in in a
 * browser allows it.
 *
 *   asking    the program polls with its device code, which is a secret; the person knows the user code, which is short
 *   answered  a person allowed or denied it; the next poll takes the answer, once, and the row is deleted
 *   expired   nobody answered within ASKING_KEPT
 *
 *   asking -answer-> answered -poll-> gone;  asking -time-> expired
 *
 * The token is made when the program fetches it, so nothing is stored that opens anything. The person sees which
 * program asked, from where and when; following a link answers nothing. A program that polls faster than its interval
 * has to wait longer from then on.
 */
import { randomBytes, randomInt } from "node:crypto";
import { textFault } from "../config/names.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { newAct, recordAudit } from "../store/audit.ts";
import {
  type AskingDevice,
  answerDevice,
  askingDevice,
  insertDevice,
  pollDevice,
  slowDevice,
  takeDevice,
} from "../store/logins.ts";
import type { Sql } from "../store/sql.ts";
import { type People, personOf, TOKEN_KEPT } from "./people.ts";
import { sha256 } from "./secret-text.ts";

const ASKING_KEPT: Ms = minutes(10);
const INTERVAL: Ms = seconds(5);
/** How much longer a program has to wait that asks too often. */
const SLOWER = seconds(5);
/** The letters of codes. Without vowels no code is a word; letters that sound or look like others are missing. */
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";
const CODE_LENGTH = 8;
const LONGEST_PROGRAM = 60;

export interface DevicesDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly people: Pick<People, "newToken">;
}

export interface Asked {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly expiresInMs: Ms;
  readonly intervalMs: Ms;
}

/** The answer to a poll. `error` is a name of RFC 8628. */
export type Polled =
  | { readonly token: string; readonly expiresAt: EpochMs }
  | {
      readonly error: "authorization_pending" | "slow_down" | "expired_token" | "access_denied" | "invalid_grant";
      readonly reason: string;
    };

export class Devices {
  readonly #deps: DevicesDeps;

  constructor(deps: DevicesDeps) {
    this.#deps = deps;
  }

  /** Begins a request. `program` is what the program calls itself; `address` is where it asks from. */
  async ask(program: string, address: string): Promise<Asked> {
    const name = program.trim();
    const fault =
      name === "" || name.length > LONGEST_PROGRAM
        ? `want a name of at most ${LONGEST_PROGRAM} characters`
        : textFault(name, "one line");
    if (fault !== undefined)
      throw new FarmError("bad-request", `Cannot let in the program ${JSON.stringify(name.slice(0, 200))}: ${fault}`);
    const askedAt = this.#deps.clock.now();
    const deviceCode = randomBytes(32).toString("base64url");
    for (;;) {
      const userCode = newUserCode();
      const device = { sha256: sha256(deviceCode), userCode, program: name, address, askedAt, intervalMs: INTERVAL };
      const free = await insertDevice(this.#deps.sql, { ...device, expiresAt: plus(askedAt, ASKING_KEPT) });
      if (free) return { deviceCode, userCode, expiresInMs: ASKING_KEPT, intervalMs: INTERVAL };
    }
  }

  /** The request with the code that a person typed. Undefined: there is none, or it has expired. */
  async asking(typed: string): Promise<AskingDevice | undefined> {
    const code = readUserCode(typed);
    return code === undefined ? undefined : askingDevice(this.#deps.sql, code, this.#deps.clock.now());
  }

  /** Allows or denies a request, and resolves with it. A token ends by `until`. Throws FarmError `not-found`. */
  async answer(
    typed: string,
    person: Person,
    answer: { readonly allowed: boolean; readonly until: EpochMs | null },
  ): Promise<AskingDevice> {
    const { sql, clock } = this.#deps;
    const code = readUserCode(typed);
    const now = clock.now();
    const act = newAct(now);
    return sql.tx(async (tx) => {
      const device =
        code === undefined ? undefined : await answerDevice(tx, code, { person: person.id, ...answer }, now);
      if (!device)
        throw new FarmError(
          "not-found",
          `Cannot find what asks with the code ${JSON.stringify(typed.slice(0, 20))}: it was answered, or is older than ${ASKING_KEPT / 60_000} minutes`,
        );
      await recordAudit(tx, {
        ...act,
        who: person.email,
        action: answer.allowed ? "let in a program" : "refuse a program",
        subject: `person:${person.id}`,
        detail: `${device.program}, ${device.address}`,
      });
      return device;
    });
  }

  async poll(deviceCode: string): Promise<Polled> {
    const { sql, clock, people } = this.#deps;
    const digest = sha256(deviceCode);
    const now = clock.now();
    const device = await pollDevice(sql, digest, now);
    if (!device) return { error: "invalid_grant", reason: "Nothing asks with this device code. Log in again." };
    if (device.expiresAt <= now) return { error: "expired_token", reason: "Nobody answered in time. Log in again." };
    const { person, before, intervalMs, allowed } = device;
    if (before !== null && now - before < intervalMs) {
      await slowDevice(sql, digest, intervalMs + SLOWER);
      return { error: "slow_down", reason: `Ask every ${(intervalMs + SLOWER) / 1000} s.` };
    }
    if (allowed === null) return { error: "authorization_pending", reason: "Nobody has answered yet." };
    if (!(await takeDevice(sql, digest))) return { error: "invalid_grant", reason: "This device code was used." };
    if (!allowed || !person) return { error: "access_denied", reason: "It was refused." };
    const span = device.until === null ? TOKEN_KEPT : ms(Math.min(TOKEN_KEPT, device.until - now));
    try {
      const { token, expiresAt } = await people.newToken(personOf(person), device.program, span, person.email);
      return { token, expiresAt };
    } catch (error) {
      return { error: "access_denied", reason: FarmError.from(error).message };
    }
  }
}

function newUserCode(): string {
  const letters = Array.from({ length: CODE_LENGTH }, () => LETTERS[randomInt(LETTERS.length)] ?? "");
  return `${letters.slice(0, CODE_LENGTH / 2).join("")}-${letters.slice(CODE_LENGTH / 2).join("")}`;
}

/** The code that was typed, in any case, with or without a separator between its halves. */
function readUserCode(typed: string): string | undefined {
  const letters = typed.toUpperCase().replace(/[\s-]/g, "");
  if (letters.length !== CODE_LENGTH || [...letters].some((letter) => !LETTERS.includes(letter))) return undefined;
  return `${letters.slice(0, CODE_LENGTH / 2)}-${letters.slice(CODE_LENGTH / 2)}`;
}
