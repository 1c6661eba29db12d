/**
 * The claim loop: idle sessions on one side, a database that knows what is wanted on the other.
 *
 * Nothing polls. A queue is looked at when a session is offered and when somebody calls `wake` (new work, a drain
 * lifted, news from another coordinator). Every SWEEP it is looked at once more, in case such a call got lost.
 *
 * One wake makes only one session ask. The answer is the lease, and how many others wait: for each of those one session
 * asks, counting the sessions that ask already. So a burst spreads at once, and nobody asks for what has been taken.
 *
 *   a lease      its session is busy now
 *   not for you  work waits that this session may not take (it failed it before, it is drained): others ask
 *   dry          nothing waits: nobody else asks until the next wake
 *   an error     the session itself asks again after RETRY, since the database may have given it a lease before the
 *                answer got lost
 *
 * A lease may be made for an idle session, when a person keeps the machine of a failed build. No other session would
 * find it, so that session is `summon`ed.
 *
 * A session is `idle`, `asking`, or unknown here. `withdraw` forgets it in every state. A lease that arrives for a
 * forgotten session is still started, and its worker finds the machine gone. Sessions may be offered before leases can
 * be started (`begin`): they wait.
 *
 * What always holds: a session asks one question at a time, a queue at most MAX_ASKING, and a wake that comes while a
 * question is under way is not lost (generation).
 */
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type EpochMs, type Ms, ms, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";

export const SWEEP: Ms = seconds(30);
export const RETRY: Ms = seconds(1);
/** How many questions may be under way at once, per queue. */
export const MAX_ASKING = 16;

/** The answer of the database to a session that asks for work. */
export interface Claimed {
  readonly lease: Lease | undefined;
  /** How many other leases wait, for this session or for others. MAX_ASKING when there are more. */
  readonly waiting: number;
  /** For a session without a lease: when it should ask again, since some of what waits may be free to take then. */
  readonly lookAgainAt: EpochMs | null;
}

export interface ClaimsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly claim: (session: SessionId) => Promise<Claimed>;
}

/** Starts the work on a lease that was claimed. Must not throw. */
export type StartLease = (lease: Lease) => void;

/** A session as the loop needs it. */
export interface Offer {
  readonly id: SessionId;
  readonly queue: string;
  /** It has a lease from before its machine came back, so it asks itself, whatever the other sessions hear. */
  readonly holds?: boolean;
}

interface Seat {
  readonly offer: Offer;
  /** The generation of its queue in which it found nothing. -1: it has not asked yet. */
  seen: number;
  asking: boolean;
}

interface Queue {
  /** In the order in which they ask. A session that found nothing goes to the end. */
  readonly seats: Map<SessionId, Seat>;
  /** Counts the wakes, to tell an answer from an older one. */
  generation: number;
  /** How many questions are still worth asking. */
  credits: number;
  asking: number;
  /** How many of the asking sessions rest after an error, and so await no answer. */
  resting: number;
  /** Sessions that must ask themselves, whatever others hear. */
  readonly owed: Set<Seat>;
}

export class Claims {
  readonly #deps: ClaimsDeps;
  readonly #signal: AbortSignal;
  readonly #queues = new Map<string, Queue>();
  /** Queue -> when it is looked at again, on the monotonic clock. */
  readonly #due = new Map<string, number>();
  /** When the nearest pending sleep ends. Later sleeps that it replaced do nothing when they end. */
  #timer = Number.POSITIVE_INFINITY;
  #start: StartLease | undefined;

  /** Claims nothing before `begin`, nor after `signal` aborts. */
  constructor(deps: ClaimsDeps, signal: AbortSignal) {
    this.#deps = deps;
    this.#signal = signal;
  }

  /** Starts claiming for the sessions that were offered. `start` gets each claimed lease. Called once. */
  begin(start: StartLease): void {
    this.#start = start;
    for (const queue of this.#queues.values()) this.#pump(queue);
    this.#sweep();
  }

  /**
   * Adds a session that became idle: it has no lease, and its machine is ready for the next. While others of its queue
   * ask, their answers count for it too. When thousands come back at once to a farm without work, a few of them ask,
   * not thousands.
   */
  offer(offer: Offer): void {
    const queue = this.#queue(offer.queue);
    const seat = { offer, seen: -1, asking: false };
    queue.seats.set(offer.id, seat);
    if (offer.holds) queue.owed.add(seat);
    if (queue.asking === queue.resting) queue.credits = Math.max(queue.credits, 1);
    this.#pump(queue);
  }

  /** Removes a session that hung up, or that somebody else uses. */
  withdraw(session: SessionId): void {
    for (const queue of this.#queues.values()) {
      const seat = queue.seats.get(session);
      if (seat === undefined) continue;
      queue.seats.delete(session);
      queue.owed.delete(seat);
    }
  }

  /**
   * Says that about `count` more leases may be taken in `queue`. Without a queue: anything may have changed anywhere.
   */
  wake(queue?: string, count = 1): void {
    const queues = queue === undefined ? [...this.#queues.values()] : [this.#queues.get(queue)];
    for (const each of queues) {
      if (each === undefined || each.seats.size === 0) continue;
      each.generation++;
      each.credits = Math.min(each.credits + count, each.seats.size);
      this.#pump(each);
    }
  }

  /**
   * Makes an idle session ask for a lease that it was given without asking. Ignores sessions that are not idle here.
   */
  summon(session: string): void {
    for (const queue of this.#queues.values()) {
      const seat = queue.seats.get(session as SessionId);
      if (seat === undefined) continue;
      queue.owed.add(seat);
      this.#pump(queue);
    }
  }

  /** How many sessions wait for work. */
  idle(queue: string): number {
    return this.#queues.get(queue)?.seats.size ?? 0;
  }

  #queue(name: string): Queue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = { seats: new Map(), generation: 0, credits: 0, asking: 0, resting: 0, owed: new Set() };
      this.#queues.set(name, queue);
    }
    return queue;
  }

  #pump(queue: Queue): void {
    while (this.#start && !this.#signal.aborted && queue.asking < MAX_ASKING) {
      const seat = chosen(queue);
      if (seat === undefined) break;
      if (!queue.owed.delete(seat)) queue.credits--;
      seat.asking = true;
      queue.asking++;
      void this.#ask(queue, seat, this.#start);
    }
  }

  async #ask(queue: Queue, seat: Seat, start: StartLease): Promise<void> {
    const { id, queue: name } = seat.offer;
    const generation = queue.generation;
    try {
      const { lease, waiting, lookAgainAt } = await this.#deps.claim(id);
      const others = queue.asking - queue.resting - 1;
      const unasked = Math.max(0, waiting - others);
      queue.credits = queue.generation === generation ? unasked : Math.max(queue.credits, unasked);
      if (lease !== undefined) {
        if (queue.seats.get(id) === seat) queue.seats.delete(id);
        queue.owed.delete(seat);
        start(lease);
      } else {
        this.#toTheEnd(queue, seat, generation);
        if (lookAgainAt !== null) this.#later(name, ms(lookAgainAt - this.#deps.clock.now()));
      }
    } catch (error) {
      this.#deps.log.warn(
        { session: id, queue: name, error: messageOf(error) },
        "Could not ask for work; trying again",
      );
      this.#toTheEnd(queue, seat, -1);
      queue.credits = Math.max(queue.credits, 1); // sessions that relied on this answer ask instead
      queue.resting++;
      this.#pump(queue);
      await this.#deps.clock.sleep(RETRY, this.#signal).catch(() => {});
      queue.resting--;
      if (queue.seats.get(id) === seat) queue.owed.add(seat);
    }
    seat.asking = false;
    queue.asking--;
    this.#pump(queue);
  }

  #toTheEnd(queue: Queue, seat: Seat, seen: number): void {
    seat.seen = seen;
    if (queue.seats.get(seat.offer.id) !== seat) return; // withdrawn or offered again in the meantime
    queue.seats.delete(seat.offer.id);
    queue.seats.set(seat.offer.id, seat);
  }

  /** Looks at `queue` again after `span`, or earlier if that is planned already. */
  #later(queue: string, span: Ms): void {
    const due = this.#deps.clock.monotonic() + Math.max(0, span);
    this.#due.set(queue, Math.min(due, this.#due.get(queue) ?? Number.POSITIVE_INFINITY));
    this.#arm();
  }

  #arm(): void {
    const due = Math.min(...this.#due.values());
    if (due >= this.#timer) return;
    this.#timer = due;
    const span = ms(Math.max(1, due - this.#deps.clock.monotonic()));
    this.#deps.clock.sleep(span, this.#signal).then(
      () => {
        if (this.#timer !== due) return;
        this.#timer = Number.POSITIVE_INFINITY;
        for (const [queue, at] of this.#due) {
          if (at > this.#deps.clock.monotonic()) continue;
          this.#due.delete(queue);
          this.wake(queue);
        }
        this.#arm();
      },
      () => {}, // aborted: nothing is claimed any more
    );
  }

  #sweep(): void {
    this.#deps.clock.sleep(SWEEP, this.#signal).then(
      () => {
        this.wake();
        this.#sweep();
      },
      () => {},
    );
  }
}

/**
 * The session that asks next: one that must ask, otherwise the first that has not asked in this generation, while
 * questions are worth asking.
 */
function chosen(queue: Queue): Seat | undefined {
  for (const seat of queue.owed) if (!seat.asking) return seat;
  if (queue.credits === 0) return undefined;
  for (const seat of queue.seats.values()) {
    if (!seat.asking && seat.seen < queue.generation) return seat;
  }
  // Sessions that ask now may get "dry" and have to ask once more because of a wake that came since. Then the credits
  // are still needed.
  if (queue.asking === queue.resting) queue.credits = 0;
  return undefined;
}
