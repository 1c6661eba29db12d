/**
 * What a person may ask for: a builder's name, which brings that builder's environment, or the name of a host type.
 */
import { environmentOf } from "../builds/plan.ts";
import type { FarmConfig, HostConfig } from "../config/effective.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import { FarmError } from "../farm/errors.ts";
import { mayNotBorrow } from "../farm/lending.ts";
import type { Person } from "../farm/person.ts";
import type { Instance } from "../store/gomote.ts";

const WORK_DIR = "$WORKDIR";

export interface InstanceType {
  readonly name: string;
  readonly host: HostConfig;
  /** What its commands find in their environment; `$WORKDIR` in a value is the machine's work dir. */
  readonly env: readonly string[];
  /** Known issues of the builder. A person who asks for it in vain is told of them. */
  readonly knownIssues: readonly (number | string)[];
}

type Types = Pick<FarmConfig, "hosts" | "builders">;

/** The types that `person` may borrow, sorted by name. */
export function typesFor(config: Types, person: Person): InstanceType[] {
  return allTypes(config).filter(({ host }) => mayNotBorrow(person, host) === undefined);
}

/** The type of this name; undefined when the configuration has none. */
export function typeNamed(config: Types, name: string): InstanceType | undefined {
  return allTypes(config).find((type) => type.name === name);
}

/**
 * The type of this name, which `person` may borrow. Throws FarmError `bad-request` when there is none, `forbidden` with
 * the reason when they may not.
 */
export function typeFor(config: Types, person: Person, name: string): InstanceType {
  const wants = "Cannot create an instance";
  if (name === "") throw new FarmError("bad-request", `${wants}: want the name of a builder or of a host type`);
  const type = typeNamed(config, name);
  if (!type) {
    const known = typesFor(config, person).map((each) => each.name);
    const given = JSON.stringify(name.slice(0, 100));
    throw new FarmError(
      "bad-request",
      `${wants} of unknown builder type ${given}${didYouMean(name.slice(0, 100), known) || "."} "create -list" shows what there is.`,
    );
  }
  const why = mayNotBorrow(person, type.host);
  if (why !== undefined) throw new FarmError("forbidden", `${wants} of ${JSON.stringify(name)}: ${why}`);
  return type;
}

/** The variables that commands on an instance get, beside those of the machine. */
export function environmentOn(
  config: Types,
  { builderType, workingDir }: Pick<Instance, "builderType" | "workingDir">,
): readonly string[] {
  return (typeNamed(config, builderType)?.env ?? []).map((pair) => pair.replaceAll(WORK_DIR, workingDir ?? ""));
}

/** All types of the configuration, sorted by name. */
export function allTypes({ hosts, builders }: Types): InstanceType[] {
  const byName = new Map(hosts.map((host) => [host.hostType, host]));
  const types = new Map<string, InstanceType>();
  for (const host of hosts) types.set(host.hostType, { name: host.hostType, host, env: host.env, knownIssues: [] });
  for (const builder of builders) {
    const host = byName.get(builder.host);
    const { name, knownIssues } = builder;
    if (host) types.set(name, { name, host, env: environmentOf(builder, host), knownIssues });
  }
  return [...types.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
