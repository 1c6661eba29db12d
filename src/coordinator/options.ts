/** What a farm is started with, and where its program's files are. */
import { fileURLToPath } from "node:url";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import type { Address } from "./address.ts";
import type { ConfigOrigin } from "./config-file.ts";

/** dist/, where this program was built to: agents, browser files. */
export const DIST: string = fileURLToPath(new URL(".", import.meta.url));

export interface CoordinatorOptions {
  readonly data: string;
  /** Where what all coordinators share is; "": the data folder. */
  readonly secrets: string;
  readonly listen: Address;
  /** Where the farm's other coordinators reach the TLS port; undefined: worked out from `listen`. */
  readonly peer: Address | undefined;
  readonly http: Address;
  /** Of the ssh gateway; undefined: there is none. */
  readonly listenSsh?: Address | undefined;
  readonly origin: ConfigOrigin;
  /** On loopback, also accept keys made from the protocol's public development master key. */
  readonly dev: boolean;
  /** Accept them whatever the address. */
  readonly allowDevKey?: boolean;
  readonly masterKeyFile?: string;
  readonly certificate?: { readonly certFile: string; readonly keyFile: string; readonly names: readonly string[] };
  readonly farmName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborts when the farm is to end, also while it starts. */
  readonly ending: AbortSignal;
  /** Called once if others took this coordinator for dead: it must stop. */
  readonly lost: () => void;
}
