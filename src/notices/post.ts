/**
 * The post: takes messages that are due and sends them, a few at once. A message that fails is tried again, less and
 * less often, TRIES times.
 *
 * Several coordinators do so side by side, and each takes messages that no other holds. A message is given up at once
 * when the configuration does not have its recipient any more. A stop waits for no mail server: a message that was
 * being sent is sent again under its id, by the coordinator that takes it once HOLD has passed.
 */
import type { FarmConfig, Recipient } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { unless } from "../farm/within.ts";
import { noticeFailed, noticeSent, type TakenNotice, takeNotices } from "../store/notices.ts";
import type { Sql } from "../store/sql.ts";
import { SEND_LIMIT } from "./channels.ts";
import type { Message } from "./message.ts";
import { everyRecipient, recipientKey, recipientLabel } from "./recipients.ts";

const POST_EVERY: Ms = seconds(10);
/** How often a message is tried: for about nine hours, with the pauses between. */
export const TRIES = 16;
const AT_ONCE = 10;
const HOLD: Ms = ms(SEND_LIMIT * 3);
const LONGEST_PAUSE: Ms = minutes(60);

/** When to try again after `tries` failed ones; undefined: the message is given up. */
export function nextTry(tries: number, now: EpochMs): EpochMs | undefined {
  if (tries >= TRIES) return undefined;
  return plus(now, ms(Math.min(30_000 * 2 ** (tries - 1), LONGEST_PAUSE)));
}

export interface PostDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "hosts" | "notify">;
  readonly send: (recipient: Recipient, message: Message, id: number, signal: AbortSignal) => Promise<void>;
}

export class Post implements AsyncDisposable {
  readonly #deps: PostDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  readonly #wake: Wake;

  constructor(deps: PostDeps) {
    this.#deps = deps;
    this.#wake = new Wake(deps.clock, this.#stop.signal);
    deps.bus.subscribe("notice:", () => this.#wake.call(), this.#stop.signal);
    this.#loop = this.#run();
  }

  /** Sends the messages that are due. Resolves with how many these were. */
  async round(): Promise<number> {
    const { sql, clock } = this.#deps;
    let taken = 0;
    while (!this.#stop.signal.aborted) {
      const notices = await takeNotices<Message>(sql, AT_ONCE, HOLD, clock.now());
      await Promise.all(notices.map((notice) => this.#deliver(notice)));
      taken += notices.length;
      if (notices.length < AT_ONCE) break;
    }
    return taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #deliver({ id, recipient: key, message, tries }: TakenNotice<Message>): Promise<void> {
    const { sql, clock, config, send, log, bus } = this.#deps;
    const recipient = everyRecipient(config()).find((each) => recipientKey(each) === key);
    const fields = { notice: id, recipient: recipientLabel(key), title: message.title };
    if (!recipient) {
      await noticeFailed(sql, id, "the configuration does not have this recipient any more", null, clock.now());
      return;
    }
    try {
      await unless(this.#stop.signal, (stop) => send(recipient, message, id, stop));
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      const now = clock.now();
      const again = nextTry(tries, now);
      log.warn({ ...fields, tries, error: messageOf(error), again: again !== undefined }, "Could not tell somebody");
      await noticeFailed(sql, id, messageOf(error), again ?? null, now);
      if (again === undefined) bus.publish("farm:");
      return;
    }
    await noticeSent(sql, id, clock.now());
    log.info(fields, "Told somebody");
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.round();
      } catch (error) {
        this.#deps.log.warn({ error: messageOf(error) }, "Could not look for messages to send");
      }
      await this.#wake.sleep(POST_EVERY);
    }
  }
}
