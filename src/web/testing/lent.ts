/**
 * Machines that people have borrowed, in a seeded farm. The machines themselves are not there: pages do not need them.
 */
import { checkFarm } from "../../config/check.ts";
import { type CoordinatorId, type EpochMs, epochMs, minutes, plus, seconds } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import { endInstances, insertInstances, instanceUp } from "../../store/gomote.ts";
import { commandBegan, commandEnded } from "../../store/gomote-commands.ts";
import { claimLease } from "../../store/leases.ts";
import { configureHostTypes } from "../../store/machines.ts";
import { addCoordinator, addMachine } from "../../store/testing/farm.ts";
import { MARKUP } from "./seed-config.ts";
import type { TestWeb } from "./web.ts";

export const LENT_TYPE = "host-linux-amd64-lent";
const KEEPER = "keeper@example.org";

export interface Lent {
  readonly alice: Person;
  readonly bob: Person;
  readonly keeper: Person;
  readonly operator: Person;
  /** The name of Alice's instance, on machine `lent-0`. */
  readonly name: string;
  readonly id: number;
  readonly machine: string;
  /** The coordinator to which its machine is connected. */
  readonly coordinator: CoordinatorId;
  /** A token of each person. */
  readonly tokens: Readonly<Record<"alice" | "bob" | "keeper" | "operator", string>>;
}

/** Alice has a machine with a command that runs and one that failed, and had one before; Bob waits. */
export async function lend(web: TestWeb, now: EpochMs = epochMs(Date.now())): Promise<Lent> {
  const { sql } = web.database;
  web.config = {
    ...web.config,
    ...{ hosts: [...web.config.hosts, ...checkFarm(LENT).hosts] },
  };
  await configureHostTypes(sql, web.config.hosts);
  const add = (email: string, role: "member" | "operator") => web.people.add(email, [role], "test");
  const alice = await add("alice@example.org", "member");
  const bob = await add("bob@example.org", "member");
  const keeper = await add(KEEPER, "member");
  const operator = await add("root@example.org", "operator");
  const coordinator = await addCoordinator(sql, "P0000000bb");
  const session = await addMachine(sql, LENT_TYPE, "lent-0", coordinator);
  const until = plus(now, minutes(28));
  const wanted = ({ id, email, name }: Person, request: string) => ({
    ...{ request, owner: id, email, user: name, builderType: LENT_TYPE, hostType: LENT_TYPE },
    ...{ coordinator, until, perPerson: 5, perHostType: null },
  });
  const up = async (request: string, at: EpochMs) => {
    const made = (await insertInstances(sql, [wanted(alice, request)], at)).get(request);
    const { lease } = await claimLease(sql, session.id, at);
    if (!lease || !made || "full" in made) throw new Error("There is one");
    await instanceUp(
      sql,
      lease,
      { workingDir: "/home/agent/work", expiresAt: until, limitAt: plus(now, minutes(700)) },
      at,
    );
    return made;
  };
  const before = await up("before", plus(now, minutes(-90)));
  const end = { id: before.id, who: alice.email, action: "destroy", reason: "its owner destroyed it" } as const;
  await endInstances(sql, [end], plus(now, minutes(-60)));
  const { id, name } = await up("now", plus(now, minutes(-12)));
  const ran = async (command: string, ago: number, state: string | null) => {
    const at = plus(now, minutes(-ago));
    const number = await commandBegan(sql, { instance: id, coordinator, who: alice.email, command, dir: "go/src" }, at);
    if (state !== null) await commandEnded(sql, number, state, plus(at, seconds(41)));
  };
  await ran("./make.bash", 10, "ok");
  await ran(`go test ./... -run ${MARKUP} ${"x".repeat(200)}`, 5, "exit status 1");
  await ran("sleep 600", 1, null);
  await insertInstances(sql, [wanted(bob, "bob")], plus(now, minutes(-2)));
  const token = async (person: Person) => (await web.people.newToken(person, "test", minutes(60 * 24), "test")).token;
  const tokens = {
    ...{ alice: await token(alice), bob: await token(bob) },
    ...{ keeper: await token(keeper), operator: await token(operator) },
  };
  return { alice, bob, keeper, operator, name, id, machine: "lent-0", coordinator, tokens };
}

const LENT = {
  repos: [],
  hosts: [{ hostType: LENT_TYPE, trust: "team", owners: [{ name: "The keeper", contact: `mailto:${KEEPER}` }] }],
  builders: [],
} as const;
