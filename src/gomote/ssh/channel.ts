/**
 * Channels of ssh carried over a shell's line to the machine (wire/buildlet-api/shell-line.ts).
 *
 * Bytes are neither kept nor looked at: when one side does not read, the other is held back (library.ts). The client
 * gets the command's own exit status, and a signal as a signal. What the gateway itself says to a person is a line that
 * begins with `# `. It goes to the terminal or, without one, to standard error, so that no program takes it for output.
 */
import { constants } from "node:os";
import type { ServerChannel } from "ssh2";
import type { Instance } from "../../store/gomote.ts";
import { processState } from "../../wire/buildlet-api/process-state.ts";
import type { Exit, Opening, ShellFrame, Terminal } from "../../wire/buildlet-api/shell.ts";
import type { ShellLine } from "../../wire/buildlet-api/shell-line.ts";

/** The exit status of `ssh` itself when a connection failed. */
const FAILED = 255;
/** The signals of RFC 4254, 6.10. The library throws for any other. */
const NAMED: ReadonlySet<string> = new Set("ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2".split(" "));
const NUMBERS: ReadonlyMap<string, number> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [name.replace(/^SIG/, ""), number]),
);

export type Asked = { readonly what: "shell"; readonly command: string | null } | { readonly what: "files" };

export type Session = Asked & {
  readonly terminal: Terminal | null;
  readonly env: readonly string[];
  readonly instance: Instance;
};

/** The part of a channel that other code needs. */
export interface Shown {
  /** Says why nothing more comes, once, and closes it. */
  tell(why: string): void;
  resize(columns: number, rows: number): void;
  signal(name: string): void;
}

/** How a session ended. */
export interface End {
  /** The state, as of any other command. */
  readonly state: string;
  /** Whether its user still has to be told. */
  readonly untold: boolean;
}

export interface Served {
  readonly shown: Shown;
  readonly over: Promise<End>;
}

/** The state of a session whose client went away. */
export const LEFT = "whoever ran it left";

/** A channel that leads nowhere: it can only be told something, which closes it. */
export function ended(channel: ServerChannel, isTerminal: boolean): Shown {
  let told = false;
  return {
    tell(why) {
      if (told) return;
      told = true;
      say(channel, isTerminal, why);
      channel.exit(FAILED);
      channel.end();
    },
    resize() {},
    signal() {},
  };
}

interface Full {
  readonly writableNeedDrain: boolean;
  once(event: "drain", go: () => void): unknown;
}

/** Holds `from` back while any of `to` has more than it passes on. The result is to be called after each write. */
export function hold(from: { pause(): unknown; resume(): unknown }, to: readonly Full[]): () => void {
  let held = false;
  const look = () => {
    const full = to.find(({ writableNeedDrain }) => writableNeedDrain);
    if (full) {
      from.pause();
      full.once("drain", look);
    } else if (held) from.resume();
    held = full !== undefined;
  };
  return () => {
    if (!held) look();
  };
}

/** Writes a line of the gateway's own. */
export function say(channel: ServerChannel, isTerminal: boolean, text: string): void {
  if (isTerminal) channel.write(`\r\n# ${text}\r\n`);
  else channel.stderr.write(`# ${text}\n`);
}

/**
 * Tells the client how a command ended. ssh names only some signals; any other becomes a status as in a shell, 128 plus
 * its number.
 */
export function exitAs(channel: ServerChannel, { code, signal }: Pick<Exit, "code" | "signal">): void {
  if (signal === null) channel.exit(code ?? FAILED);
  else if (NAMED.has(signal)) channel.exit(signal, false, "");
  else channel.exit(128 + (NUMBERS.get(signal) ?? FAILED - 128));
}

export function stateOf({ code, signal, problem }: Exit): string {
  return problem === "" ? processState(code, signal === null ? null : `SIG${signal}`) : problem;
}

/**
 * Serves a channel until it is over. `gone` aborts when the client is gone: the library does not close a channel that
 * holds bytes which the client did not take.
 */
export function serveOverLine(channel: ServerChannel, line: ShellLine, session: Session, gone: AbortSignal): Served {
  const { terminal } = session;
  const { promise: over, resolve } = Promise.withResolvers<End>();
  const plain = ended(channel, terminal !== null);
  let exited = false;
  const finish = (exit: Exit) => {
    exited = true;
    if (exit.problem !== "") say(channel, terminal !== null, exit.problem);
    // This comes after the rest of standard error, for which the end of the channel does not wait.
    channel.stderr.write("", () => {
      exitAs(channel, exit);
      channel.end();
    });
    resolve({ state: stateOf(exit), untold: false });
  };
  const held = hold(line, [channel, channel.stderr]);
  line.listen({
    frame: (frame) => {
      switch (frame.kind) {
        case "data":
          channel.write(frame.bytes);
          return held();
        case "errors":
          channel.stderr.write(frame.bytes);
          return held();
        case "started":
          if (frame.started.note !== "") say(channel, terminal !== null, frame.started.note);
          return;
        case "exit":
          return finish(frame.exit);
        default:
          return;
      }
    },
    closed: (error) => {
      resolve({ state: error?.message ?? "The machine's connection was lost.", untold: true });
    },
  });
  line.send({ kind: "open", opening: openingOf(session) });
  if (terminal && session.what === "shell" && session.command === null) welcome(channel, session.instance);
  channel.on("data", (bytes: Buffer) => {
    if (line.send({ kind: "data", bytes })) return;
    channel.pause();
    void line.drained().then(() => channel.resume());
  });
  channel.once("end", () => line.send({ kind: "eof" }));
  const leave = () => {
    resolve({ state: LEFT, untold: false });
    line.destroy();
  };
  channel.once("close", leave);
  onAbort(gone, leave);
  const shown: Shown = {
    tell(why) {
      if (!exited) plain.tell(why);
      exited = true;
      resolve({ state: why, untold: false });
      line.destroy();
    },
    resize: (columns, rows) => void line.send({ kind: "resize", columns, rows }),
    signal: (signal) => void line.send({ kind: "signal", signal }),
  };
  return { shown, over };
}

/** Accepts the channel once the machine has connected. Resolves when the channel is closed. */
export async function forward(
  accept: () => ServerChannel,
  reject: () => void,
  line: ShellLine,
  opening: Opening & { readonly what: "dial" },
  gone: AbortSignal,
): Promise<void> {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  let channel: ServerChannel | undefined;
  let held = (): void => {};
  const take = (frame: ShellFrame) => {
    if (frame.kind === "started") {
      channel = accept();
      held = hold(line, [channel]);
      channel.on("error", () => {}); // a close follows
      channel.on("data", (bytes: Buffer) => {
        if (line.send({ kind: "data", bytes })) return;
        channel?.pause();
        void line.drained().then(() => channel?.resume());
      });
      channel.once("end", () => line.send({ kind: "eof" }));
      channel.once("close", () => line.destroy());
    } else if (frame.kind === "data" && channel) {
      channel.write(frame.bytes);
      held();
    } else if (frame.kind === "eof" && channel) {
      const half = channel;
      half.write("", () => half.eof());
    } else if (frame.kind === "exit") {
      if (channel) channel.end();
      else reject();
    }
  };
  line.listen({
    frame: take,
    closed: () => {
      channel?.end();
      resolve();
    },
  });
  line.send({ kind: "open", opening });
  onAbort(gone, () => line.destroy());
  await over;
}

/** Calls `leave` when `signal` aborts, or at once if it has aborted already. */
export function onAbort(signal: AbortSignal, leave: () => void): void {
  if (signal.aborted) leave();
  else signal.addEventListener("abort", leave, { once: true });
}

function openingOf({ terminal, env, ...asked }: Session): Opening {
  if (asked.what === "files") return { what: "files" };
  return { what: "shell", command: asked.command, terminal, env };
}

/** Greets the user in lines that begin with `# `, as the original's gateway does. */
export function welcome(channel: ServerChannel, { name, machine, workingDir, hostType }: Instance): void {
  const dir = workingDir ?? "";
  const lines = [
    `Welcome to ${name}, the machine ${machine ?? ""} of ${hostType}.`,
    `Work dir ${dir}; GOROOT is ${dir}/go and GOPATH is ${dir}/gopath where they were set up.`,
    "It is yours while this shell is open; what it holds is deleted when the instance ends.",
  ];
  channel.write(lines.map((line) => `# ${line}\r\n`).join(""));
}
