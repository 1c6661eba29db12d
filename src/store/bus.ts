/**
 * The Bus over PostgreSQL's LISTEN and NOTIFY. A topic reaches listeners in this process at once, and those in other
 * coordinators within PUBLISH_EVERY.
 *
 * Topics published close together travel in one notification, since a notifying commit takes a lock that all others
 * wait for. After a lost connection some notifications may have been missed. Every listener is then called with its own
 * prefix, which means "anything under it may have changed".
 */
import { randomBytes } from "node:crypto";
import pg from "pg";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { ms } from "../farm/ids.ts";
import { STATEMENT_LIMIT } from "./connection.ts";

const PUBLISH_EVERY = ms(20);
const RECONNECT_AFTER = ms(500);
const CHANNEL = "farm";
/** A notification carries less than 8,000 bytes. */
const PAYLOAD_LIMIT = 7000;

interface Listener {
  readonly prefix: string;
  readonly call: (topic: string) => void;
}

export class PostgresBus implements Bus, AsyncDisposable {
  readonly #config: pg.ClientConfig;
  readonly #clock: Clock;
  readonly #log: Log;
  /** Marks our own notifications, whose topics were delivered already. */
  readonly #self = randomBytes(6).toString("hex");
  readonly #listeners = new Set<Listener>();
  readonly #stop = new AbortController();
  readonly #pending = new Set<string>();
  readonly #loop: Promise<void>;
  #wake: () => void = () => {};

  constructor(config: pg.ClientConfig, clock: Clock, log: Log) {
    this.#config = config;
    this.#clock = clock;
    this.#log = log;
    this.#loop = this.#run();
  }

  publish(topic: string): void {
    this.#deliver(topic);
    this.#pending.add(topic);
    this.#wake();
  }

  subscribe(prefix: string, call: (topic: string) => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    const listener = { prefix, call };
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#loop;
  }

  #deliver(topic: string): void {
    for (const { prefix, call } of this.#listeners) {
      if (topic.startsWith(prefix)) call(topic);
    }
  }

  async #run(): Promise<void> {
    let missed = false;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#connected(missed);
        return; // stopped
      } catch (error) {
        this.#log.warn({ error: messageOf(error) }, "Lost the database's notifications; connecting again");
        missed = true;
        await this.#clock.sleep(RECONNECT_AFTER, this.#stop.signal).catch(() => {});
      }
    }
  }

  /** Listens over one connection. Returns when stopped, throws when the connection breaks. */
  async #connected(missed: boolean): Promise<void> {
    const client = new pg.Client({
      ...this.#config,
      application_name: "barnraiser bus",
      keepAlive: true,
      query_timeout: STATEMENT_LIMIT,
    });
    let broken: Error | undefined;
    client.on("error", (error) => {
      broken = error;
      this.#wake();
    });
    client.on("notification", ({ payload = "" }) => {
      const [from, ...topics] = payload.split("\n");
      if (from !== this.#self) for (const topic of topics) this.#deliver(topic);
    });
    try {
      await client.connect();
      await client.query(`set synchronous_commit = off; listen ${CHANNEL}`);
      if (missed) for (const { prefix, call } of this.#listeners) call(prefix);
      for (;;) {
        if (broken) throw broken;
        await this.#send(client);
        if (this.#stop.signal.aborted) return;
        await this.#clock.sleep(PUBLISH_EVERY, this.#stop.signal).catch(() => {});
        if (this.#pending.size > 0 || broken || this.#stop.signal.aborted) continue;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      await client.end().catch(() => {});
    }
  }

  async #send(client: pg.Client): Promise<void> {
    while (this.#pending.size > 0) {
      let payload = this.#self;
      const taken: string[] = [];
      for (const topic of this.#pending) {
        if (payload.length + 1 + Buffer.byteLength(topic) > PAYLOAD_LIMIT) break;
        payload += `\n${topic}`;
        taken.push(topic);
      }
      for (const topic of taken) this.#pending.delete(topic);
      try {
        await client.query("select pg_notify($1, $2)", [CHANNEL, payload]);
      } catch (error) {
        for (const topic of taken) this.#pending.add(topic);
        throw error;
      }
    }
  }
}
