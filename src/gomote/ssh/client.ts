/**
 * One client of the ssh gateway that was let in: the channels over its connection, all to one instance.
 *
 *   session       a shell, a command, or sftp: channel.ts where our agent serves it, original.ts where an original
 *                 buildlet does
 *   direct-tcpip  `-L`: to the machine's own loopback only. Anything else is refused, also in the farm's network. Both
 *                 are in the audit, once for each destination
 *   anything else (-R, unix sockets, X11, an agent) is refused
 *
 * A session is a command of its instance (running-commands.ts). While a channel is open the instance is in use. When
 * the instance ends, or the token that asked for the certificate expires or is revoked, every terminal is told why, and
 * the connection is closed. A connection without any channel is closed after IDLE_LIMIT, so that a multiplexing client
 * holds nothing for ever.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Connection, ServerChannel, Session, TcpipRequestInfo } from "ssh2";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, minutes, seconds } from "../../farm/ids.ts";
import { newAct, recordAudit } from "../../store/audit.ts";
import { type Instance, instancesById } from "../../store/gomote.ts";
import { whyTokenEnded } from "../../store/people.ts";
import type { Sql } from "../../store/sql.ts";
import { loopbackAddresses, type Terminal } from "../../wire/buildlet-api/shell.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { environmentOn } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import type { MachineLines } from "../machine-lines.ts";
import { auditText } from "../rpc/requests.ts";
import type { RunningCommand, RunningCommands } from "../running-commands.ts";
import { type Asked, ended, forward, LEFT, type Shown, serveOverLine } from "./channel.ts";
import type { ClientKeyOf } from "./keys.ts";
import { held } from "./library.ts";
import { serveOriginal } from "./original.ts";

const IDLE_LIMIT: Ms = minutes(10);
const ADMISSION_LOOK_EVERY: Ms = minutes(1);
/** Sessions and forwarded connections of one client at a time. */
export const MOST_CHANNELS = 128;
/** Destinations of forwarded ports over one connection: each is written down in the audit. */
export const MOST_DESTINATIONS = 200;
const BEYOND = `more than ${MOST_DESTINATIONS} destinations over one connection: those beyond are refused`;
const LONGEST_HOST = 200;
/** How long a client may take to read why its connection ends. */
const LAST_WORDS: Ms = seconds(2);
/** Variables that a client may set: the language of texts, and nothing else that changes what programs do. */
const MAY_SET = /^(LANG|LC_[A-Z]{1,20})$/;
const MOST_VARIABLES = 20;
const MOST_SIDE = 1000;

export interface SshClientDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "hosts" | "builders">;
  readonly instances: Pick<Instances, "keep">;
  readonly lines: Pick<MachineLines, "open">;
  readonly commands: Pick<RunningCommands, "begin">;
  readonly client: ClientKeyOf;
}

export interface Entered {
  readonly connection: Connection;
  readonly socket: Socket;
  readonly instance: Instance;
  /** The number of the token that asked for its certificate. */
  readonly token: string | undefined;
  /** Why this client gets no channel; undefined: it does. */
  readonly refusal: string | undefined;
}

/** A session of a client that asked for something. */
type Begun = Asked & {
  readonly terminal: Terminal | null;
  readonly env: readonly string[];
  /** Aborts when the client closes it. */
  readonly left: AbortSignal;
};

export class SshClient {
  readonly #deps: SshClientDeps;
  readonly #entered: Entered;
  readonly #gone = new AbortController();
  /** The channels that are open, whose users can be told something. */
  readonly #open = new Set<Shown>();
  /** What the audit says of a forwarded port -> when that is written. */
  readonly #forwards = new Map<string, Promise<void>>();
  /** How many sessions there are, also without a command yet, and forwarded connections. */
  #taken = 0;
  /** How many of them are being served. */
  #channels = 0;
  #idle = new AbortController();
  #ending = false;

  constructor(deps: SshClientDeps, entered: Entered) {
    this.#deps = deps;
    this.#entered = entered;
    const { connection, socket, instance } = entered;
    socket.once("close", () => this.#gone.abort(new FarmError("canceled", LEFT)));
    for (const topic of [`gomote-ended:${instance.id}`, `person:${instance.owner}`])
      deps.bus.subscribe(topic, () => void this.#look(), this.#gone.signal);
    void this.#watch();
    connection.on("session", (accept, reject) => {
      if (this.#taken >= MOST_CHANNELS) reject();
      else this.#session(accept());
    });
    connection.on("tcpip", (accept, reject, info) => void this.#forward(accept, reject, info));
    this.#count(0);
  }

  #session(session: Session): void {
    let terminal: Terminal | null = null;
    const env: string[] = [];
    let shown: Shown | undefined;
    const left = new AbortController();
    this.#taken++;
    session.once("close", () => {
      this.#taken--;
      left.abort(new FarmError("canceled", LEFT));
    });
    session.on("pty", (accept, _, info) => {
      // The name in the client's database of terminals, which the library's types leave out.
      const { term = "" } = info as { readonly term?: string };
      const name = /^[\w.+-]{1,64}$/.test(term) ? term : "xterm";
      terminal = { name, ...sizeOf(info) };
      accept?.();
    });
    session.on("env", (accept, reject, { key, val }) => {
      if (!MAY_SET.test(key) || env.length >= MOST_VARIABLES || /[\0\n]/.test(val)) return void reject?.();
      env.push(`${key}=${val}`);
      accept?.();
    });
    session.on("window-change", (accept, _, info) => {
      const size = sizeOf(info);
      if (terminal) terminal = { ...terminal, ...size };
      shown?.resize(size.columns, size.rows);
      accept?.();
    });
    session.on("signal", (accept, _, { name }) => {
      shown?.signal(name);
      accept?.();
    });
    const begin = (accept: () => ServerChannel | undefined, asked: Asked) => {
      const channel = accept();
      if (!channel) return; // a session has one command, and this one's has begun
      const begun = { ...asked, terminal, env, left: left.signal };
      void this.#serve(held(channel, this.#entered.socket), begun, (now) => {
        shown = now;
      });
    };
    session.on("shell", (accept) => begin(accept, { what: "shell", command: null }));
    session.on("exec", (accept, _, { command }) => begin(accept, { what: "shell", command }));
    session.on("subsystem", (accept, reject, { name }) => {
      if (name === "sftp") begin(accept, { what: "files" });
      else reject();
    });
  }

  async #serve(channel: ServerChannel, begun: Begun, show: (shown: Shown) => void): Promise<void> {
    const { log, config, instances, lines, commands, client } = this.#deps;
    const { instance, refusal } = this.#entered;
    const { left, ...asked } = begun;
    using _kept = instances.keep(instance);
    this.#count(1);
    channel.on("error", () => {}); // a close follows
    let shown = ended(channel, asked.terminal !== null);
    let command: RunningCommand | undefined;
    let state = LEFT;
    try {
      if (refusal !== undefined) throw new FarmError("too-large", refusal);
      command = await commands.begin(instance, { who: instance.email, dir: "", action: "gomote ssh", ...named(asked) });
      const { killed } = command;
      killed.addEventListener("abort", () => shown.tell(`This is over: ${messageOf(killed.reason)}.`), { once: true });
      const gone = AbortSignal.any([this.#gone.signal, left, killed]);
      const line = await lines.open(instance, gone);
      const env = [...environmentOn(config(), instance), ...asked.env];
      const opened =
        line.speaks === "ssh"
          ? serveOriginal(
              channel,
              line.duplex,
              { ...asked, instance, key: client(instance.machineId).privateKey },
              gone,
            )
          : serveOverLine(channel, new ShellLine(line.duplex), { ...asked, env, instance }, gone);
      shown = opened.shown;
      this.#open.add(shown);
      show(shown);
      const end = await opened.over;
      state = end.untold ? await this.#explain(shown, end.state) : end.state;
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code === "internal") log.error({ error: message }, "Could not serve an ssh session");
      state = await this.#explain(shown, code === "internal" ? "Something went wrong here." : message);
    } finally {
      this.#open.delete(shown);
      this.#count(-1);
      await command?.ended(state);
    }
  }

  async #forward(
    accept: () => ServerChannel,
    reject: () => void,
    { destIP, destPort }: TcpipRequestInfo,
  ): Promise<void> {
    const { instances, lines } = this.#deps;
    const { instance, refusal, socket } = this.#entered;
    const to = `${destIP.slice(0, LONGEST_HOST)}:${destPort}`;
    const why = refusal ?? (this.#taken >= MOST_CHANNELS ? `there are ${MOST_CHANNELS} channels` : barred(destIP));
    if (why !== undefined) return await this.#refuse(to, why, reject);
    using _kept = instances.keep(instance);
    this.#taken++;
    this.#count(1);
    const gone = this.#gone.signal;
    let duplex: Duplex | undefined;
    try {
      const line = await lines.open(instance, gone);
      ({ duplex } = line);
      if (line.speaks === "ssh") throw new FarmError("conflict", "an original buildlet forwards no ports");
      await this.#recordForward(to);
      const opening = { what: "dial", host: destIP, port: destPort } as const;
      await forward(() => held(accept(), socket), reject, new ShellLine(duplex), opening, gone);
    } catch (error) {
      duplex?.destroy();
      await this.#refuse(to, messageOf(error), reject);
    } finally {
      this.#taken--;
      this.#count(-1);
    }
  }

  async #refuse(to: string, why: string, reject: () => void): Promise<void> {
    const { log } = this.#deps;
    const { name } = this.#entered.instance;
    log.info({ instance: name, to, why }, "Refused to forward a port");
    reject();
    await this.#recordForward(`${to} refused: ${why}`).catch((error: unknown) =>
      log.info({ instance: name, error: messageOf(error) }, "Did not write down a refused port"),
    );
  }

  /**
   * Records a destination in the audit, once for all connections to it. Throws FarmError beyond MOST_DESTINATIONS,
   * which is recorded once as well.
   */
  async #recordForward(what: string): Promise<void> {
    const { sql, clock } = this.#deps;
    const { email, name } = this.#entered.instance;
    const isOneMore = this.#forwards.size >= MOST_DESTINATIONS && !this.#forwards.has(what);
    const detail = isOneMore ? BEYOND : what;
    let recorded = this.#forwards.get(detail);
    if (!recorded) {
      const subject = `gomote:${name}`;
      const entry = {
        ...newAct(clock.now()),
        who: email,
        action: "gomote forward",
        subject,
        detail: auditText(detail),
      };
      recorded = recordAudit(sql, entry);
      this.#forwards.set(detail, recorded);
      recorded.catch(() => this.#forwards.delete(detail));
    }
    await recorded;
    if (isOneMore) throw new FarmError("too-large", BEYOND);
  }

  /** Why it is over for this client; undefined: it is not. The database knows first. */
  async #reason(): Promise<string | undefined> {
    const { sql, clock } = this.#deps;
    const { instance, token } = this.#entered;
    const { id, name, lease } = instance;
    const [now] = await instancesById(sql, [id]);
    if (now?.lease !== lease || now.state === "ended")
      return `The instance ${name} has ended: ${now?.endReason ?? "it is not there any more"}.`;
    const ended = token === undefined ? undefined : await whyTokenEnded(sql, token, clock.now());
    return ended && `The token that let you in ${ended === "revoked" ? "was revoked" : "has expired"}.`;
  }

  /** Tells the user of a channel why nothing more comes, and closes it. Returns that reason. */
  async #explain(shown: Shown, otherwise: string): Promise<string> {
    const why = (await this.#reason().catch(() => undefined)) ?? otherwise;
    shown.tell(why);
    return why;
  }

  /** Looks every ADMISSION_LOOK_EVERY: a topic may get lost, and a token expires without one. */
  async #watch(): Promise<void> {
    const { signal } = this.#gone;
    while (!signal.aborted) {
      await this.#deps.clock.sleep(ADMISSION_LOOK_EVERY, signal).catch(() => {});
      if (!signal.aborted) await this.#look();
    }
  }

  /** Ends the connection if the database says that it is over for this client: a topic is only a hint. */
  async #look(): Promise<void> {
    const why = await this.#reason().catch(() => undefined);
    if (why === undefined || this.#ending) return;
    this.#ending = true;
    for (const shown of this.#open) shown.tell(why);
    const { connection, socket } = this.#entered;
    await this.#deps.clock.sleep(LAST_WORDS, this.#gone.signal).catch(() => {});
    connection.end();
    socket.destroySoon();
  }

  #count(change: number): void {
    this.#channels += change;
    this.#idle.abort();
    if (this.#channels > 0) return;
    this.#idle = new AbortController();
    this.#deps.clock.sleep(IDLE_LIMIT, AbortSignal.any([this.#idle.signal, this.#gone.signal])).then(
      () => this.#entered.connection.end(),
      () => {},
    );
  }
}

/** Why no connection to `host` is forwarded; undefined: it may be. */
function barred(host: string): string | undefined {
  return loopbackAddresses(host) === undefined ? "only the machine's own loopback is reached" : undefined;
}

/** How people read of a session: among the commands, and in the audit. */
function named(asked: Asked): { readonly command: string; readonly detail: string } {
  if (asked.what === "files") return { command: "files over ssh (sftp, scp)", detail: "files" };
  const { command } = asked;
  return command === null ? { command: "a shell over ssh", detail: "shell" } : { command, detail: command };
}

/** The size of a window, within what the machine can have. */
function sizeOf({ cols, rows }: { readonly cols: number; readonly rows: number }): {
  readonly columns: number;
  readonly rows: number;
} {
  return { columns: Math.min(cols, MOST_SIDE) || 80, rows: Math.min(rows, MOST_SIDE) || 24 };
}
