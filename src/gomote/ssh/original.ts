/**
 * A shell on a machine with an original buildlet. Such a buildlet has an ssh server of its own, and wants a terminal.
 * The gateway is a client of that server, with a key of its own, over the tunnel that POST /connect-ssh gave. The
 * server's key is not checked: the tunnel leads to that machine only.
 *
 * Without a terminal the user gets one line and the end, as with the original's gateway. There are no files and no
 * forwarded ports.
 */
import type { Duplex } from "node:stream";
import ssh2, { type ClientChannel, type ServerChannel } from "ssh2";
import { messageOf } from "../../farm/errors.ts";
import type { Instance } from "../../store/gomote.ts";
import type { Exit, Terminal } from "../../wire/buildlet-api/shell.ts";
import { BUILDLET_USER } from "../machine-lines.ts";
import {
  type Asked,
  type End,
  ended,
  exitAs,
  LEFT,
  onAbort,
  type Served,
  type Shown,
  say,
  stateOf,
  welcome,
} from "./channel.ts";

const READY_LIMIT_MS = 15_000;
const NO_TERMINAL =
  "scp etc. unsupported: this machine has an original buildlet, which gives shells with a terminal only (ssh -t).";

export type OriginalSession = Asked & {
  readonly terminal: Terminal | null;
  readonly instance: Instance;
  /** The private part of the key that the machine was given. */
  readonly key: string;
};

/** Serves a channel until it is over; `gone` is as for `serveOverLine`. */
export function serveOriginal(
  channel: ServerChannel,
  duplex: Duplex,
  session: OriginalSession,
  gone: AbortSignal,
): Served {
  const { terminal, instance, key } = session;
  const plain = ended(channel, terminal !== null);
  const { promise: over, resolve } = Promise.withResolvers<End>();
  if (terminal === null || session.what === "files") {
    duplex.destroy();
    plain.tell(NO_TERMINAL);
    resolve({ state: NO_TERMINAL, untold: false });
    return { shown: plain, over };
  }
  const client = new ssh2.Client();
  let stream: ClientChannel | undefined;
  let { columns, rows } = terminal;
  const broke = (state: string) => resolve({ state, untold: true });
  const exit = (how: Exit) => {
    exitAs(channel, how);
    channel.end();
    client.end();
    resolve({ state: stateOf(how), untold: false });
  };
  client.on("ready", () => {
    const pty = { term: terminal.name, cols: columns, rows };
    const opened = (error: Error | undefined, made: ClientChannel) => {
      if (error) return broke(`The machine opened no shell: ${messageOf(error)}`);
      stream = made;
      let how: Exit = { code: 0, signal: null, problem: "" };
      made.on("exit", (code: number | null, signal?: string) => {
        how = { code, signal: signal?.replace(/^SIG/, "") ?? null, problem: "" };
      });
      made.on("error", () => {}); // a close follows
      made.once("close", () => exit(how));
      made.pipe(channel, { end: false });
      channel.pipe(made);
    };
    if (session.command === null) client.shell(pty, opened);
    else client.exec(session.command, { pty }, opened);
  });
  client.on("error", (error) => broke(`The machine's ssh server: ${messageOf(error)}`));
  client.on("close", () => broke("The machine's connection was lost."));
  const leave = () => {
    resolve({ state: LEFT, untold: false });
    client.end();
    duplex.destroy();
  };
  channel.once("close", leave);
  onAbort(gone, leave);
  if (session.command === null) welcome(channel, instance);
  else say(channel, true, "An original buildlet may open a shell instead of running the command.");
  client.connect({ sock: duplex, username: BUILDLET_USER, privateKey: key, readyTimeout: READY_LIMIT_MS });
  const shown: Shown = {
    tell: (why) => {
      plain.tell(why);
      resolve({ state: why, untold: false });
      duplex.destroy();
    },
    resize: (width, height) => {
      [columns, rows] = [width, height];
      stream?.setWindow(height, width, 0, 0);
    },
    signal: (name) => stream?.signal(name),
  };
  return { shown, over };
}
