/**
 * Machines and host types as an operator names them. An unknown name is refused with the name that was probably meant.
 */
import { didYouMean } from "../farm/did-you-mean.ts";
import { FarmError } from "../farm/errors.ts";
import type { DrainTarget } from "../store/drain.ts";
import { allNames, isHostType, machinesCalled } from "../store/names.ts";
import type { Sql } from "../store/sql.ts";
import { positive } from "./http.ts";

/** The id of a machine, from its number (on pages) or its name (on the command line). */
export async function machineOf(sql: Sql, text: string): Promise<number> {
  const machines = await machinesCalled(sql, text);
  const [first, second] = machines;
  if (second) {
    const numbers = machines.map((machine) => `${machine.hostType} has number ${machine.id}`).join(", ");
    throw new FarmError(
      "conflict",
      `Cannot tell which machine ${JSON.stringify(text)} is meant: ${numbers}. Give the number.`,
    );
  }
  return first?.id ?? positive(text) ?? (await refuse(sql, "machine", text, await isHostType(sql, text)));
}

export async function hostTypeOf(sql: Sql, text: string): Promise<string> {
  if (await isHostType(sql, text)) return text;
  const [machine] = await machinesCalled(sql, text);
  return refuse(sql, "host type", text, machine !== undefined);
}

/** The host type of this name, or else the machine. */
export async function namedTarget(sql: Sql, text: string): Promise<DrainTarget> {
  const [hostType, [machine]] = await Promise.all([isHostType(sql, text), machinesCalled(sql, text)]);
  if (hostType && machine) {
    throw new FarmError(
      "conflict",
      `Cannot tell whether the host type or the machine ${JSON.stringify(text)} is meant. The machine has number ${machine.id}; the host type has a button on /builders.`,
    );
  }
  if (hostType) return { kind: "hostType", name: text };
  if (!machine && positive(text) === undefined) return refuse(sql, "machine or host type", text);
  return { kind: "machine", id: await machineOf(sql, text) };
}

/**
 * Throws `not-found` with the name that was probably meant. `other`: the name is that of a host type, where a machine
 * is wanted, or of a machine.
 */
async function refuse(
  sql: Sql,
  what: "machine" | "host type" | "machine or host type",
  text: string,
  other = false,
): Promise<never> {
  const hint = other
    ? `; it is a ${what === "machine" ? "host type" : "machine"}`
    : didYouMean(text, await allNames(sql));
  throw new FarmError("not-found", `Cannot find ${what} ${JSON.stringify(text)}${hint}`);
}
