/**
 * One client of the ssh gateway that was let in: the channels over its connection, all to one instance.
 *
 *   session       a shell, a command, or sftp: channel.ts where our agent serves it, original.ts where a buildlet has an ssh server
 *   direct-tcpip  `-L`: to the machine's own loopback only; towards anything else it is refused, also towards the farm's network
 *   anything else (-R, unix sockets, X11, an agent) is refused
 *
 * While a channel is open the instance is in use. When the instance ends, every terminal is told why, and the connection is closed. A
 * connection without any channel is closed after IDLE_LIMIT, so that a multiplexing client holds nothing for ever.
 */
import type { Socket } from "node:net";
import type { Connection, ServerChannel, Session, TcpipRequestInfo } from "ssh2";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, minutes, seconds } from "../../farm/ids.ts";
import { recordAudit } from "../../store/audit.ts";
import { type Instance, instancesById } from "../../store/gomote.ts";
import type { Sql } from "../../store/sql.ts";
import { loopbackAddresses, type Terminal } from "../../wire/buildlet-api/shell.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { environmentOn } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import type { MachineLine, MachineLines } from "../machine-lines.ts";
import { type Asked, ended, forward, type Shown, serveOverLine } from "./channel.ts";
import type { SshPair } from "./keys.ts";
import { serveOriginal } from "./original.ts";

export const IDLE_LIMIT: Ms = minutes(10);
/** Sessions and forwarded connections of one client at a time. */
export const MOST_CHANNELS = 128;
/** How long a client may take to read why its connection ends. */
const LAST_WORDS: Ms = seconds(2);
/** What a client may set: how it reads texts, nothing that changes what programs do otherwise. */
const MAY_SET = /^(LANG|LC_[A-Z]{1,20})$/;
const MOST_VARIABLES = 20;

export interface SshClientDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "hosts" | "builders">;
  readonly instances: Pick<Instances, "keep">;
  readonly lines: Pick<MachineLines, "open">;
  /** The gateway's key for machines that have an ssh server. */
  readonly client: SshPair;
}

export interface Entered {
  readonly connection: Connection;
  readonly socket: Socket;
  readonly instance: Instance;
  /** Why this client gets nothing; undefined: it does. */
  readonly refusal: string | undefined;
}

export class SshClient {
  readonly #deps: SshClientDeps;
  readonly #entered: Entered;
  readonly #gone = new AbortController();
  /** Channels that are open, each with how its user is told something. */
  readonly #open = new Set<Shown>();
  #channels = 0;
  #idle = new AbortController();
  #ending = false;

  constructor(deps: SshClientDeps, entered: Entered) {
    this.#deps = deps;
    this.#entered = entered;
    const { connection, socket, instance } = entered;
    socket.setMaxListeners(2 * MOST_CHANNELS); // each waits for it to drain
    socket.once("close", () => this.#gone.abort(new FarmError("canceled", "the client hung up")));
    deps.bus.subscribe(`gomote-ended:${instance.id}`, () => void this.#look(), this.#gone.signal);
    connection.on("session", (accept, reject) => {
      if (this.#channels >= MOST_CHANNELS) reject();
      else this.#session(accept());
    });
    connection.on("tcpip", (accept, reject, info) => void this.#forward(accept, reject, info));
    this.#count(0);
  }

  #session(session: Session): void {
    let terminal: Terminal | null = null;
    const env: string[] = [];
    let shown: Shown | undefined;
    session.on("pty", (accept, _, info) => {
      const { cols, rows } = info;
      // What its database of terminals calls it; the types leave it out.
      const { term = "" } = info as { readonly term?: string };
      const name = /^[\w.+-]{1,64}$/.test(term) ? term : "xterm";
      terminal = { name, columns: cols || 80, rows: rows || 24 };
      accept?.();
    });
    session.on("env", (accept, reject, { key, val }) => {
      if (!MAY_SET.test(key) || env.length >= MOST_VARIABLES || /[\0\n]/.test(val)) return void reject?.();
      env.push(`${key}=${val}`);
      accept?.();
    });
    session.on("window-change", (accept, _, { cols, rows }) => {
      if (terminal) terminal = { ...terminal, columns: cols || 80, rows: rows || 24 };
      shown?.resize(cols || 80, rows || 24);
      accept?.();
    });
    session.on("signal", (accept, _, { name }) => {
      shown?.signal(name);
      accept?.();
    });
    const begin = (accept: () => ServerChannel, asked: Asked) => {
      const channel = accept();
      void this.#serve(channel, { ...asked, terminal, env }, (now) => {
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

  async #serve(
    channel: ServerChannel,
    asked: Asked & { readonly terminal: Terminal | null; readonly env: readonly string[] },
    show: (shown: Shown) => void,
  ): Promise<void> {
    const { sql, clock, log, config, instances, client } = this.#deps;
    const { socket, instance, refusal } = this.#entered;
    using _kept = instances.keep(instance);
    this.#count(1);
    channel.on("error", () => {}); // a close follows
    let shown = ended(channel, asked.terminal !== null);
    try {
      if (refusal !== undefined) throw new FarmError("too-large", refusal);
      const detail = asked.what === "files" ? "files" : (asked.command ?? "shell");
      const subject = `gomote:${instance.name}`;
      const said = detail.replaceAll("\0", "").slice(0, 500).toWellFormed();
      await recordAudit(sql, { at: clock.now(), who: instance.email, action: "gomote ssh", subject, detail: said });
      const line = await this.#line(channel);
      const env = [...environmentOn(config(), instance), ...asked.env];
      const opened =
        line.speaks === "ssh"
          ? serveOriginal(channel, socket, line.duplex, { ...asked, instance, key: client.privateKey })
          : serveOverLine(channel, socket, new ShellLine(line.duplex), { ...asked, env, instance });
      shown = opened.shown;
      this.#open.add(shown);
      show(shown);
      const broke = await opened.over;
      if (broke !== undefined) await this.#explain(shown, broke);
    } catch (error) {
      if (!(error instanceof FarmError)) log.error({ error: messageOf(error) }, "Could not serve an ssh session");
      await this.#explain(shown, messageOf(error));
    } finally {
      this.#open.delete(shown);
      this.#count(-1);
    }
  }

  async #forward(
    accept: () => ServerChannel,
    reject: () => void,
    { destIP, destPort }: TcpipRequestInfo,
  ): Promise<void> {
    const { instances, log } = this.#deps;
    const { socket, instance, refusal } = this.#entered;
    if (refusal !== undefined || this.#channels >= MOST_CHANNELS || loopbackAddresses(destIP) === undefined) {
      log.info({ instance: instance.name, to: `${destIP.slice(0, 100)}:${destPort}` }, "Refused to forward a port");
      return reject();
    }
    using _kept = instances.keep(instance);
    this.#count(1);
    try {
      const line = await this.#deps.lines.open(instance, this.#gone.signal);
      if (line.speaks === "ssh") {
        line.duplex.destroy();
        return reject();
      }
      const opening = { what: "dial", host: destIP, port: destPort } as const;
      await forward(accept, reject, socket, new ShellLine(line.duplex), opening);
    } catch (error) {
      log.info({ instance: instance.name, error: messageOf(error) }, "Could not forward a port");
      reject();
    } finally {
      this.#count(-1);
    }
  }

  /** Given up when the client leaves. */
  async #line(channel: ServerChannel): Promise<MachineLine> {
    const left = new AbortController();
    const leave = () => left.abort(new FarmError("canceled", "the client closed it"));
    channel.once("close", leave);
    try {
      return await this.#deps.lines.open(this.#entered.instance, AbortSignal.any([this.#gone.signal, left.signal]));
    } finally {
      channel.off("close", leave);
    }
  }

  /** Why the instance is over, when it is: the database knows first. */
  async #reason(): Promise<string | undefined> {
    const { id, name, lease } = this.#entered.instance;
    const [now] = await instancesById(this.#deps.sql, [id]);
    if (now?.lease === lease && now.state !== "ended") return undefined;
    return `The instance ${name} has ended: ${now?.endReason ?? "it is not there any more"}.`;
  }

  /** Tells whoever is at a terminal why nothing more comes, and closes it. */
  async #explain(shown: Shown, otherwise: string): Promise<void> {
    const why = await this.#reason().catch(() => undefined);
    shown.tell(why ?? otherwise);
  }

  /** A topic is a hint. */
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
