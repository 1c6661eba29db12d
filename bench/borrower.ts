/** Somebody who borrows machines of a farm that is measured. */
import { minutes } from "../src/farm/ids.ts";
import { People } from "../src/people/people.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { BenchFarm } from "./farm.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const nobody = { publish() {}, subscribe() {} };

/** Adds alice to the farm; her token. */
export async function aliceToken(farm: BenchFarm): Promise<string> {
  const people = new People({ sql: farm.sql, bus: nobody, clock: systemClock, log: quiet });
  const alice = await people.add("alice@example.org", ["member"], "bench");
  return (await people.newToken(alice, "bench", minutes(60), "bench")).token;
}
