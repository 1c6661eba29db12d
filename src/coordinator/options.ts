/** The options with which a farm is started, and the folder of its program's files. */
import { fileURLToPath } from "node:url";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import type { Address } from "./address.ts";
import type { ConfigOrigin } from "./config-file.ts";

/** The folder dist/ of this program's build: agents, browser files. */
export const DIST: string = fileURLToPath(new URL(".", import.meta.url));

export interface CoordinatorOptions {
  readonly data: string;
  /** The folder of the secrets that all coordinators share; "": the data folder. */
  readonly secrets: string;
  readonly listen: Address;
  /** The address at which other coordinators reach the TLS port; undefined: it is worked out from `listen`. */
  readonly peer: Address | undefined;
  readonly http: Address;
  /** The address of the ssh gateway; undefined: there is none. */
  readonly listenSsh?: Address | undefined;
  readonly origin: ConfigOrigin;
  /** Also accept keys that are made from the protocol's public development master key, on loopback only. */
  readonly dev: boolean;
  /** Accept such keys on any address. */
  readonly allowDevKey?: boolean;
  readonly masterKeyFile?: string;
  readonly certificate?: { readonly certFile: string; readonly keyFile: string; readonly names: readonly string[] };
  readonly farmName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborts when the farm is to end, also while it starts. */
  readonly ending: AbortSignal;
  /** Called once if others have declared this coordinator dead: it must stop. */
  readonly lost: () => void;
}
