/**
 * One shell on a person's instance, shown in a browser.
 *
 *   shown   a screen is there, and gets every byte
 *   alone   the screen is gone; the shell goes on for KEPT_MS, and its last SCREEN bytes are kept for a person who
 *           comes back
 *   over    the shell ended, its instance did, or nobody came back; told once, with a sentence why
 *
 *   shown -connection lost-> alone -the same person comes back-> shown;  shown | alone -> over
 *
 * Always: at most WINDOW bytes are on their way to a screen, also when the screen says that it has shown bytes which
 * have not even left yet. At most SCREEN bytes are kept. A screen that another one takes over from is told so.
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../farm/clock.ts";
import { ms, type PersonId } from "../../farm/ids.ts";
import type { Exit } from "../../wire/buildlet-api/shell.ts";
import type { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { KEPT_MS, SCREEN, type Size, type ToBrowser, WINDOW } from "../../wire/gomote/terminal-message.ts";

/** Where a shell is shown. */
export interface Screen {
  /** Sends bytes; `left` is called once they are on their way. */
  send(bytes: Uint8Array, left: () => void): void;
  tell(message: ToBrowser): void;
  /** Hangs up, after `ended` was told or when another screen took over. */
  close(): void;
}

export interface TerminalDeps {
  readonly clock: Clock;
  readonly line: ShellLine;
  readonly owner: PersonId;
  readonly instance: string;
  /** Gets what the shell prints, to record it. */
  readonly printed: (bytes: Uint8Array) => void;
  readonly resized: (size: Size) => void;
}

export class Terminal {
  readonly id: string = randomBytes(12).toString("base64url");
  readonly owner: PersonId;
  readonly instance: string;
  /** Resolves with the sentence why it is over. */
  readonly over: Promise<string>;
  readonly #deps: TerminalDeps;
  readonly #end: (why: string) => void;
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  /** Bytes printed so far. */
  #at = 0;
  /** Bytes that have left for the screen, and bytes that it says it has shown. */
  #left = 0;
  #shown = 0;
  #held = false;
  #note = "";
  #why: string | undefined;
  #screen: Screen | undefined;
  #leaving: AbortController | undefined;

  constructor(deps: TerminalDeps, size: Size) {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#deps = deps;
    this.owner = deps.owner;
    this.instance = deps.instance;
    this.over = promise;
    this.#end = resolve;
    const { line } = deps;
    line.listen({
      frame: (frame) => {
        if (frame.kind === "data" || frame.kind === "errors") this.#print(frame.bytes);
        else if (frame.kind === "started" && frame.started.note !== "") {
          this.#note = frame.started.note;
          this.#print(Buffer.from(`# ${frame.started.note}\r\n`));
        } else if (frame.kind === "exit") this.end(exitSentence(frame.exit));
      },
      closed: (error) => this.end(error ? `The connection to the machine broke: ${error.message}.` : LOST),
    });
    const terminal = { name: "xterm-256color", ...size };
    line.send({ kind: "open", opening: { what: "shell", command: null, terminal, env: ["COLORTERM=truecolor"] } });
  }

  /** Shows the shell on `screen`, which has `from` bytes of it already. */
  show(screen: Screen, from: number, size: Size): void {
    this.#leaving?.abort();
    this.#leaving = undefined;
    this.#screen?.tell({ ended: "This shell is shown in another window now." });
    this.#screen?.close();
    this.#screen = screen;
    const first = this.#at - this.#keptBytes;
    const at = from >= first && from <= this.#at ? from : first;
    screen.tell({ opened: { shell: this.id, at, note: this.#note } });
    if (this.#why !== undefined) {
      this.#over(screen, this.#why);
      return;
    }
    this.#shown = at;
    this.#left = at;
    let end = first;
    for (const bytes of this.#kept) {
      end += bytes.length;
      if (end > at) this.#send(screen, bytes.subarray(-(end - at)), end);
    }
    this.resize(size);
    this.#balance();
  }

  /** The connection of `screen` is gone. */
  leave(screen: Screen): void {
    if (this.#screen !== screen) return;
    this.#screen = undefined;
    if (this.#why !== undefined) return;
    this.#balance();
    const leaving = new AbortController();
    this.#leaving = leaving;
    this.#deps.clock.sleep(ms(KEPT_MS), leaving.signal).then(
      () => this.end(`Nobody came back to it within ${KEPT_MS / 1000} s.`),
      () => {},
    );
  }

  /** Types bytes. False: wait for `drained` before typing more. */
  type(bytes: Uint8Array): boolean {
    return this.#deps.line.send({ kind: "data", bytes });
  }

  drained(): Promise<void> {
    return this.#deps.line.drained();
  }

  resize(size: Size): void {
    this.#deps.line.send({ kind: "resize", ...size });
    this.#deps.resized(size);
  }

  shown(count: number): void {
    this.#shown = Math.max(this.#shown, count);
    this.#balance();
  }

  end(why: string): void {
    if (this.#why !== undefined) return;
    this.#why = why;
    this.#leaving?.abort();
    this.#deps.line.destroy();
    if (this.#screen) this.#over(this.#screen, why);
    this.#end(why);
  }

  #over(screen: Screen, why: string): void {
    screen.tell({ ended: why });
    screen.close();
  }

  /** Sends bytes to a screen; `end` is how many were printed up to the last of them. */
  #send(screen: Screen, bytes: Uint8Array, end: number): void {
    screen.send(bytes, () => {
      if (this.#screen !== screen) return;
      this.#left = end;
      this.#balance();
    });
  }

  #print(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#at += bytes.length;
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    for (let [first] = this.#kept; first && this.#keptBytes - first.length >= SCREEN; [first] = this.#kept) {
      this.#kept.shift();
      this.#keptBytes -= first.length;
    }
    this.#deps.printed(bytes);
    if (this.#screen) this.#send(this.#screen, bytes, this.#at);
    this.#balance();
  }

  /** A slow screen holds the program back. Without a screen the program goes on. */
  #balance(): void {
    const full = this.#screen !== undefined && this.#at - Math.min(this.#shown, this.#left) >= WINDOW;
    if (full === this.#held) return;
    this.#held = full;
    if (full) this.#deps.line.pause();
    else this.#deps.line.resume();
  }
}

const LOST = "The connection to the machine was lost.";

function exitSentence({ code, signal, problem }: Exit): string {
  if (problem !== "") return `The shell could not be started: ${problem}.`;
  if (signal !== null) return `The shell was ended by signal ${signal}.`;
  return code === 0 || code === null ? "The shell has ended." : `The shell has ended, with exit status ${code}.`;
}
