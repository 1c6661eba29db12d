/**
 * The door for browsers' terminals: WebSocket at `/gomotes/NAME/shell` (wire/gomote/terminal-message.ts), on the ports
 * of the pages.
 *
 * Only a page of ours (`Origin` is the host of the request) in which the borrower of the instance is signed in is let
 * in: by the cookie, as for every button, so that no address holds a secret. A bearer does not count here, since no
 * browser sends one. All others are answered in plain HTTP, with the reason. A connection for a machine that is
 * connected to another coordinator is carried there as it is.
 *
 * A shell ends when the browser that opened it is no longer signed in: the person signed out, or the token that they
 * had shown has expired or was revoked. This is checked when something about the person is published, and every
 * LOOK_EVERY.
 *
 * A browser that sends nothing for SAID_LIMIT after it was let in is hung up on. All buffers are bounded: towards the
 * browser by the window of the terminal, towards the machine by pausing the browser's connection.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";
import { every } from "../farm/every.ts";
import { type CoordinatorId, type Ms, minutes, seconds } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { HeldElsewhere, type Instances } from "../gomote/instances.ts";
import type { Screen, Terminal } from "../gomote/terminals/terminal.ts";
import type { Terminals } from "../gomote/terminals/terminals.ts";
import type { Peers } from "../peers/peers.ts";
import { MOST_TYPED, OVER, readFromBrowser, type ToBrowser } from "../wire/gomote/terminal-message.ts";
import { encodeRequestHead } from "../wire/revdial/http-head.ts";
import { movedOn, PASSED_ON } from "./pass-on.ts";

const SAID_LIMIT: Ms = seconds(10);
const PING_EVERY: Ms = seconds(20);
const LOOK_EVERY: Ms = minutes(1);
const SIGNED_OUT = "You are not signed in any more: log in again.";
const PATH = /^\/gomotes\/([^/?]+)\/shell$/;
/** How many characters of an address a refusal quotes. A whole refusal has at most four times as many. */
const REASON_LIMIT = 120;

export interface TerminalDoorDeps {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly instances: Pick<Instances, "held">;
  readonly terminals: Pick<Terminals, "open" | "find" | "show">;
  readonly peers: Pick<Peers, "connect">;
  /** The person who is signed in in the browser that sent this request. */
  readonly signedIn: (request: IncomingMessage) => Promise<Person | undefined>;
}

export class TerminalDoor implements Disposable {
  readonly #deps: TerminalDoorDeps;
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MOST_TYPED, perMessageDeflate: false });
  readonly #stop = new AbortController();

  constructor(deps: TerminalDoorDeps) {
    this.#deps = deps;
  }

  /** Whether a request to upgrade is for a shell. */
  isFor(request: Pick<IncomingMessage, "url">): boolean {
    return PATH.test(pathOf(request));
  }

  /** Takes the connection of a request to upgrade. Never throws. */
  async knock(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      await this.#knock(request, socket, head);
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code === "internal") this.#deps.log.error({ error: messageOf(error) }, "A terminal failed");
      refuse(socket, CODES[code].http, code === "internal" ? "Something went wrong here." : message);
    }
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    for (const client of this.#server.clients) client.terminate();
    this.#server.close();
  }

  async #knock(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { instances, signedIn } = this.#deps;
    if (!isOwnPage(request))
      throw new FarmError("forbidden", "Cannot open a shell for another site: use the farm's own page");
    const person = await signedIn(request);
    if (!person) throw new FarmError("unauthenticated", "Log in to open a shell on your instance");
    const instance = instanceOf(pathOf(request));
    try {
      await instances.held(person, instance);
    } catch (error) {
      if (!(error instanceof HeldElsewhere)) throw error;
      await this.#carry(error.coordinator, request, socket, head);
      return;
    }
    this.#server.handleUpgrade(
      request,
      socket,
      head,
      (browser) => void this.#serve(browser, request, person, instance),
    );
  }

  async #serve(browser: WebSocket, request: IncomingMessage, person: Person, instance: string): Promise<void> {
    const { bus, clock, log, terminals, signedIn } = this.#deps;
    const left = new AbortController();
    const screen: Screen = {
      send: (bytes, taken) => browser.send(bytes, taken),
      tell: (message: ToBrowser) => browser.send(JSON.stringify(message)),
      close: () => browser.close(OVER),
    };
    browser.on("error", () => browser.terminate());
    let terminal: Terminal | undefined;
    let leave = (): void => {};
    browser.once("close", () => {
      left.abort(new FarmError("canceled", "the browser left"));
      leave();
    });
    clock.sleep(SAID_LIMIT, left.signal).then(
      () => {
        if (!opening) browser.terminate();
      },
      () => {},
    );
    let opening = false;
    const open = async ({
      shell,
      from,
      ...size
    }: {
      shell: string | null;
      from: number;
      columns: number;
      rows: number;
    }) => {
      try {
        const known = shell === null ? undefined : terminals.find(person, instance, shell);
        if (shell !== null && !known) {
          screen.tell({ ended: "The shell is not there any more: it ended while the connection was lost." });
          screen.close();
          return;
        }
        terminal = known ?? (await terminals.open(person, instance, size, left.signal));
        leave = terminals.show(terminal, screen, from, size);
        if (left.signal.aborted) leave();
      } catch (error) {
        const told = FarmError.from(error);
        screen.tell({ ended: told.code === "internal" ? "Something went wrong here." : told.message });
        screen.close();
      }
    };
    browser.on("message", (data: RawData, isBinary: boolean) => {
      const bytes = bytesOf(data);
      if (isBinary) {
        if (terminal?.type(bytes) === false) hold(browser, terminal);
        return;
      }
      const said = readFromBrowser(bytes.toString());
      if (said && "open" in said && !opening) {
        opening = true;
        void open(said.open);
      } else if (said && "resize" in said) terminal?.resize(said.resize);
      else if (said && "shown" in said) terminal?.shown(said.shown);
      else browser.close(1003, "want open, resize or shown");
    });
    const look = async () => {
      if ((await signedIn(request))?.id === person.id) return;
      terminal?.end(SIGNED_OUT);
      if (!terminal) screen.tell({ ended: SIGNED_OUT });
      screen.close();
    };
    const failed = "Could not look who is at a terminal";
    const heard = () => void look().catch((error: unknown) => log.warn({ error: messageOf(error) }, failed));
    bus.subscribe(`person:${person.id}`, heard, left.signal);
    await Promise.all([
      this.#askForLife(browser, left.signal),
      every(LOOK_EVERY, look, failed, { clock, log }, AbortSignal.any([left.signal, this.#stop.signal])),
    ]);
  }

  /** Asks the browser whether it is there. One that is gone without a word is noticed within two rounds. */
  async #askForLife(browser: WebSocket, left: AbortSignal): Promise<void> {
    let lives = true;
    browser.on("pong", () => {
      lives = true;
    });
    const either = AbortSignal.any([left, this.#stop.signal]);
    while (!either.aborted) {
      await this.#deps.clock.sleep(PING_EVERY, either).catch(() => {});
      if (either.aborted) return;
      if (!lives) browser.terminate();
      lives = false;
      browser.ping();
    }
  }

  async #carry(coordinator: CoordinatorId, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if (request.headers[PASSED_ON] !== undefined) throw movedOn();
    const left = new AbortController();
    socket.once("close", () => left.abort(new FarmError("canceled", "the browser left")));
    const peer = await this.#deps.peers.connect(coordinator, left.signal);
    const fields: [string, string][] = [[PASSED_ON, "1"]];
    for (let at = 0; at + 1 < request.rawHeaders.length; at += 2)
      fields.push([request.rawHeaders[at] ?? "", request.rawHeaders[at + 1] ?? ""]);
    peer.write(encodeRequestHead(request.method ?? "GET", request.url ?? "/", fields));
    if (head.length > 0) peer.write(head);
    for (const [from, to] of [
      [socket, peer],
      [peer, socket],
    ] as const) {
      from.on("error", () => {}); // a close follows
      from.once("close", () => (from.readableEnded ? to.end() : to.destroy()));
      from.pipe(to);
    }
  }
}

/** Pauses the browser's connection while the machine does not take what is typed. */
function hold(browser: WebSocket, terminal: Terminal): void {
  browser.pause();
  void terminal.drained().then(() => browser.resume());
}

function pathOf({ url = "" }: Pick<IncomingMessage, "url">): string {
  return url.split("?", 1)[0] ?? "";
}

/** The name of the instance in the address. Throws FarmError `bad-request`. */
function instanceOf(path: string): string {
  const [, name = ""] = PATH.exec(path) ?? [];
  try {
    return decodeURIComponent(name);
  } catch (cause) {
    const text = `Cannot open a shell on ${JSON.stringify(name.slice(0, REASON_LIMIT))}: want UTF-8 behind each %`;
    throw new FarmError("bad-request", text, { cause });
  }
}

function isOwnPage({ headers: { origin, host } }: IncomingMessage): boolean {
  try {
    return origin !== undefined && host !== undefined && new URL(origin).host === new URL(`http://${host}`).host;
  } catch {
    return false;
  }
}

function bytesOf(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

function refuse(socket: Duplex, status: number, text: string): void {
  const body = Buffer.from(`${text.slice(0, REASON_LIMIT * 4)}\n`);
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body.toString()}`,
  );
}
