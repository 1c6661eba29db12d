/** The flags of `buildlet`: those of the original, and ours. stage0 passes on what it does not use itself. */
import { bool, duration, type Flag, type FlagValues, text } from "../farm/flags.ts";
import { type Ms, minutes } from "../farm/ids.ts";

type Bools = "halt" | "reboot" | "version" | "compatible" | "own-user";
type Texts = "workdir" | "listen" | "reverse-type" | "coordinator" | "hostname" | "health-addr" | "ca-file";
type BuildletFlagTypes = { readonly [name in Bools]: Flag<boolean> } & { readonly [name in Texts]: Flag<string> } & {
  readonly reconnect: Flag<Ms>;
};

export const BUILDLET_FLAGS: BuildletFlagTypes = {
  halt: bool(true, "power the machine off at the end of the session, where that is possible"),
  reboot: bool(false, "reboot the machine at the end of the session"),
  workdir: text(
    "",
    "folder for builds; must exist. The farm empties it before each build: never your home. Default: one below the temporary folder",
  ),
  listen: text("AUTO", "address to listen on when not in reverse mode: HOST:PORT or :PORT"),
  "reverse-type": text("", "host type of this machine; when given, the buildlet dials the coordinator"),
  coordinator: text("localhost:8119", "HOST:PORT of the coordinator"),
  hostname: text("", "name of this machine for people. Default: HOSTNAME, else the system's"),
  "health-addr": text("127.0.0.1:8080", "in reverse mode, address that answers /healthz; empty: none"),
  reconnect: duration(
    minutes(5),
    "in reverse mode, how long commands go on and the coordinator is dialled again after the connection was lost; 0s: not at all",
  ),
  "own-user": bool(
    false,
    "this program's user is for it alone: all other processes of that user are killed whenever a build or a borrower ends. Linux, not root",
  ),
  version: bool(false, "print the version and end"),
  "ca-file": text("", "certificates (PEM) that the coordinator's must come from, instead of the usual authorities"),
  compatible: bool(
    false,
    "choose key and TLS verification by the original's rule: only farmer.golang.org… is verified",
  ),
};

export type BuildletFlags = FlagValues<BuildletFlagTypes>;
