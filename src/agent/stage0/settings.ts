/** The settings of stage0, from its own flags, those of the agent, and the environment. */
import { resolve } from "node:path";
import { formatAddress, parseAddress } from "../../dial/address.ts";
import type { Environment } from "../../dial/proxy.ts";
import { bool, choice, duration, type Flag, type FlagValues } from "../../farm/flags.ts";
import { ms } from "../../farm/ids.ts";
import { BUILDLET_FLAGS } from "../buildlet-flags.ts";
import { type TlsTrust, trustFor } from "../dial.ts";
import { type KeyInput, keyInput, showsDevKey } from "../key.ts";
import type { Stage0Settings } from "./stage0.ts";
import { UNIT_KINDS, type UnitKind } from "./unit.ts";

type OwnFlags = {
  readonly loop: Flag<boolean>;
  readonly "network-wait": Flag<ReturnType<typeof ms>>;
  readonly "print-unit": Flag<UnitKind | "">;
};

export const STAGE0_FLAGS: OwnFlags & typeof BUILDLET_FLAGS = {
  ...BUILDLET_FLAGS,
  // Its value counts only where it was given: see agentFlags.
  halt: bool(false, `${BUILDLET_FLAGS.halt.help}. Default: false with a host type (reverse mode), otherwise true`),
  loop: bool(false, "start the agent again when it ends; for machines without a supervisor"),
  "network-wait": duration(ms(0), "how long to wait for the coordinator. Default: 30s, on Windows 5m"),
  "print-unit": choice<UnitKind | "">(
    ["", ...UNIT_KINDS],
    "",
    "print a unit for this supervisor, with these flags, and end",
  ),
};

export type Stage0Flags = FlagValues<typeof STAGE0_FLAGS>;

export interface Stage0Plan extends Stage0Settings {
  readonly trust: TlsTrust;
}

/** The agent's file in `dir`, where it comes from, and its flags. Throws with a sentence for the owner. */
export function planStage0(
  flags: Stage0Flags,
  given: ReadonlySet<string>,
  machine: Pick<KeyInput, "env" | "platform" | "uid">,
  dir: string,
): Stage0Plan {
  const { env } = machine;
  const address = parseAddress(flags.coordinator);
  const hostType = flags["reverse-type"] || (env.GO_BUILDER_ENV ?? "");
  // An agent that will show a real key must come from the coordinator that the key is for.
  const devKey = showsDevKey(keyInput(flags, address, { ...machine, hostType }));
  const named = env.META_BUILDLET_BINARY_URL ?? "";
  const url = named !== "" ? named : `https://${formatAddress(address)}/agents/buildlet.mjs`;
  const script = /\.[mc]?js$/.exec(new URL(url).pathname);
  return {
    url,
    file: resolve(dir, script ? `buildlet${script[0]}` : "buildlet.exe"),
    args: agentFlags(flags, given, env),
    networkWait: flags["network-wait"],
    // Only our coordinator's certificate is judged by the owner's flags.
    trust: named === "" ? trustFor(address, flags["ca-file"], devKey) : { verify: true, ca: undefined },
  };
}

/** The agent's flags as given, each once, paths made absolute; host type from GO_BUILDER_ENV when not given. */
export function agentFlags(flags: Stage0Flags, given: ReadonlySet<string>, env: Environment): string[] {
  const values = new Map<string, string>();
  for (const name of Object.keys(BUILDLET_FLAGS)) {
    if (!given.has(name)) continue;
    const value = String(flags[name as keyof typeof BUILDLET_FLAGS]); // a key of it, by the loop
    values.set(name, value !== "" && (name === "workdir" || name === "ca-file") ? resolve(value) : value);
  }
  const hostType = env.GO_BUILDER_ENV ?? "";
  if (!values.has("reverse-type") && hostType !== "") values.set("reverse-type", hostType);
  // A lent machine is not switched off, unless its owner says so.
  if (values.has("reverse-type") && !values.has("halt")) values.set("halt", "false");
  return [...values].map(([name, value]) => `-${name}=${value}`);
}
