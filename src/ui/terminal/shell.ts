/**
 * The browser's end of a shell (wire/gomote/terminal-message.ts).
 *
 *   opening -opened-> open -connection lost-> lost -comes back within KEPT_MS-> open
 *   any -told why-> ended;  lost -KEPT_MS-> ended
 *
 * A lost connection is dialled again every RETRY_MS. It then asks for the output after the bytes that are here already.
 */
import { type FromBrowser, KEPT_MS, MOST_TYPED, OVER, type ToBrowser } from "../../wire/gomote/terminal-message.ts";
import { openScreen } from "./screen.ts";

const RETRY_MS = 1000;
/** After this many bytes on the screen, the browser tells how many it has shown. */
const SAY_SHOWN = 16 * 1024;

export interface ShellListener {
  state(state: "opening" | "open" | "lost"): void;
  ended(why: string): void;
}

export interface BrowserShell {
  /** Types text as a paste, in the brackets that the program asked for. */
  paste(text: string): void;
  focus(): void;
  /** Leaves the shell. */
  close(): void;
}

export function openShell(box: HTMLElement, instance: string, listener: ShellListener): BrowserShell {
  const screen = openScreen(box);
  const { terminal } = screen;
  const address = `/gomotes/${encodeURIComponent(instance)}`;
  let socket: WebSocket | undefined;
  let shell: string | null = null;
  let received = 0;
  let shown = 0;
  let said = 0;
  let lostAt = 0;
  let over = false;
  let again: ReturnType<typeof setTimeout> | undefined;

  const say = (message: FromBrowser): void => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  const size = () => ({ columns: terminal.cols, rows: terminal.rows });
  const end = (why: string): void => {
    if (over) return;
    over = true;
    clearTimeout(again);
    terminal.options.disableStdin = true;
    terminal.options.cursorBlink = false;
    listener.ended(why);
  };
  const take = (bytes: Uint8Array): void => {
    received += bytes.length;
    terminal.write(bytes, () => {
      shown += bytes.length;
      if (shown - said < SAY_SHOWN) return;
      said = shown;
      say({ shown });
    });
  };
  const hear = (message: ToBrowser): void => {
    if ("ended" in message) {
      end(message.ended);
      return;
    }
    const { at } = message.opened;
    if (shell !== null && at !== received) terminal.reset();
    ({ shell } = message.opened);
    [received, shown, said] = [at, at, at];
    lostAt = 0;
    listener.state("open");
  };
  const dial = (): void => {
    const opened = new WebSocket(`${location.origin.replace(/^http/, "ws")}${address}/shell`);
    socket = opened;
    opened.binaryType = "arraybuffer";
    opened.addEventListener("open", () => say({ open: { ...size(), shell, from: received } }));
    opened.addEventListener("message", ({ data }) => {
      if (socket !== opened) return;
      if (typeof data === "string") hear(JSON.parse(data) as ToBrowser);
      else take(new Uint8Array(data as ArrayBuffer));
    });
    opened.addEventListener("close", ({ code }) => {
      if (socket !== opened || over) return;
      if (code === OVER) end("The shell is over.");
      else if (shell === null) void refusal(address).then(end);
      else lost();
    });
  };
  const lost = (): void => {
    lostAt ||= Date.now();
    if (Date.now() - lostAt > KEPT_MS) {
      end(`The connection was lost, and the farm not reached for ${KEPT_MS / 1000} s.`);
      return;
    }
    listener.state("lost");
    again = setTimeout(dial, RETRY_MS);
  };

  const encoder = new TextEncoder();
  const type = (bytes: Uint8Array<ArrayBuffer>): void => {
    if (socket?.readyState !== WebSocket.OPEN || shell === null) return;
    // A paste may have any length, and a message may not.
    for (let at = 0; at < bytes.length; at += MOST_TYPED) socket.send(bytes.subarray(at, at + MOST_TYPED));
  };
  terminal.onData((text) => type(encoder.encode(text)));
  terminal.onBinary((text) => type(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => say({ resize: { columns: cols, rows } }));
  listener.state("opening");
  dial();
  return {
    paste: (text) => terminal.paste(text),
    focus: () => terminal.focus(),
    close() {
      over = true;
      clearTimeout(again);
      socket?.close();
      screen[Symbol.dispose]();
    },
  };
}

/** Why a connection was refused. A browser does not tell a page, so the page of the instance is asked. */
async function refusal(address: string): Promise<string> {
  try {
    const answer = await fetch(`${address}?format=json`);
    const { error } = (await answer.json()) as { readonly error?: string };
    if (error !== undefined) return error;
  } catch {
    return "The farm does not answer.";
  }
  return "The farm opened no shell; try again in a moment.";
}
