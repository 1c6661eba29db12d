/** People who borrow machines of a farm that is measured. */
import { minutes } from "../src/farm/ids.ts";
import { Logins } from "../src/people/logins.ts";
import { People } from "../src/people/people.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { BenchFarm } from "./farm.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const nobody = { publish() {}, subscribe() {} };

export interface Borrower {
  readonly token: string;
  /** Of a browser in which they are signed in. */
  readonly cookie: string;
}

/** Adds NAME@example.org to the farm. */
export async function borrower({ sql }: BenchFarm, name: string): Promise<Borrower> {
  const people = new People({ sql, bus: nobody, clock: systemClock, log: quiet });
  const person = await people.add(`${name}@example.org`, ["member"], "bench");
  const { id, token, expiresAt } = await people.newToken(person, "bench", minutes(60), "bench");
  const logins = new Logins({ sql, bus: nobody, clock: systemClock });
  const { secret } = await logins.signIn(person, { by: "token", id, expiresAt });
  return { token, cookie: `barnraiser_session=${secret}` };
}
