/**
 * The claim loop: idle sessions on one side, a database that knows what is wanted on the other.
 *
 * Nothing polls. A queue is looked at when a session is offered and when somebody says `wake` (new work, a drain lifted, another
 * coordinator's word); every SWEEP it is looked at once more, for a word that got lost.
 *
 * No herd: one wake makes one session ask. An answer says more than the lease: how much waits besides, and for each of that one session asks,
 * those included who are asking already. So a burst spreads at once, and what has been taken is not asked for in vain.
 *
 *   a lease      its session is busy now
 *   not for you  work waits that this session may not take (it failed it before, it is drained): others ask
 *   dry          nothing waits: nobody else asks until the next wake
 *   an error     the session asks again itself after RETRY, since the database may have given it a lease before the answer got lost
 *
 * A lease that is made for an idle session (whoever keeps the machine of a build that failed) is nobody else's to find: that session is `summon`ed.
 *
 * A session is `idle`, `asking`, or not known here. `withdraw` forgets it in every state; a lease that arrives for a forgotten
 * session is still started, and whoever starts it finds the machine gone. Sessions may be offered before there is anybody to start
 * their leases (`begin`): they wait. Always: one question at a time per session, at most
 * MAX_ASKING per queue, and no wake is lost that comes while a question is under way (generation).
 */
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type EpochMs, type Ms, ms, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";

export const SWEEP: Ms = seconds(30);
export const RETRY: Ms = seconds(1);
/** Questions under way at once, per queue. */
export const MAX_ASKING = 16;

/** What the database answers a session that asks for work. */
export interface Claimed {
  readonly lease: Lease | undefined;
  /** So many leases wait besides, for this session or for others; MAX_ASKING when there are more. */
  readonly waiting: number;
  /** Without a lease: when some of what waits becomes free to take. */
  readonly lookAgainAt: EpochMs | null;
}

export interface ClaimsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly claim: (session: SessionId) => Promise<Claimed>;
}

/** Who works off what is claimed: told of each lease once it is held. Must not throw. */
export type StartLease = (lease: Lease) => void;

/** A session as the loop needs it. */
export interface Offer {
  readonly id: SessionId;
  readonly queue: string;
  /** It has a lease from before its machine came back: it asks whatever others were told. */
  readonly holds?: boolean;
}

interface Seat {
  readonly offer: Offer;
  /** Generation of its queue at which it found nothing; -1 when it has not asked yet. */
  seen: number;
  asking: boolean;
}

interface Queue {
  /** In the order in which they are asked; who found nothing goes to the end. */
  readonly seats: Map<SessionId, Seat>;
  /** Counts the wakes, so that an answer can be told from an older one. */
  generation: number;
  /** Questions that are still worth asking. */
  credits: number;
  asking: number;
  /** How many of these rest after an error, and hear nothing. */
  resting: number;
  /** Must ask themselves, whatever others were told. */
  readonly owed: Set<Seat>;
}

export class Claims {
  readonly #deps: ClaimsDeps;
  readonly #signal: AbortSignal;
  readonly #queues = new Map<string, Queue>();
  /** Queue -> when it is looked at again, on the monotonic clock. */
  readonly #due = new Map<string, number>();
  /** When the nearest pending sleep ends; the later ones that it replaced wake for nothing. */
  #timer = Number.POSITIVE_INFINITY;
  #start: StartLease | undefined;

  /** Nothing is claimed before `begin`, nor once `signal` aborts. */
  constructor(deps: ClaimsDeps, signal: AbortSignal) {
    this.#deps = deps;
    this.#signal = signal;
  }

  /** From now on those who have been offered are asked for, and what is claimed is given to `start`. Once. */
  begin(start: StartLease): void {
    this.#start = start;
    for (const queue of this.#queues.values()) this.#pump(queue);
    this.#sweep();
  }

  /**
   * A session became idle: it has no lease, and its machine is ready for the next. While others of its queue ask, what they hear goes for it
   * too: thousands that come back at once to a farm that has nothing to do ask a few times, not thousands.
   */
  offer(offer: Offer): void {
    const queue = this.#queue(offer.queue);
    const seat = { offer, seen: -1, asking: false };
    queue.seats.set(offer.id, seat);
    if (offer.holds) queue.owed.add(seat);
    if (queue.asking === queue.resting) queue.credits = Math.max(queue.credits, 1);
    this.#pump(queue);
  }

  /** The session hung up, or somebody else uses it. */
  withdraw(session: SessionId): void {
    for (const queue of this.#queues.values()) queue.seats.delete(session);
  }

  /** Something changed in `queue`: about `count` more leases may be taken there. Without a queue: anything anywhere. */
  wake(queue?: string, count = 1): void {
    const queues = queue === undefined ? [...this.#queues.values()] : [this.#queues.get(queue)];
    for (const each of queues) {
      if (each === undefined || each.seats.size === 0) continue;
      each.generation++;
      each.credits = Math.min(each.credits + count, each.seats.size);
      this.#pump(each);
    }
  }

  /** A session, if it is an idle one of here, was given a lease that it does not know of: it asks itself, whatever others are told. */
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
      queue.credits = Math.max(queue.credits, 1); // whoever counts on this answer asks instead
      queue.resting++;
      this.#pump(queue);
      await this.#deps.clock.sleep(RETRY, this.#signal).catch(() => {});
      queue.resting--;
      queue.owed.add(seat);
    }
    seat.asking = false;
    queue.asking--;
    this.#pump(queue);
  }

  #toTheEnd(queue: Queue, seat: Seat, seen: number): void {
    seat.seen = seen;
    if (queue.seats.get(seat.offer.id) !== seat) return; // withdrawn or offered anew in the meantime
    queue.seats.delete(seat.offer.id);
    queue.seats.set(seat.offer.id, seat);
  }

  /** Looks at `queue` again after `span`, or sooner when that was promised before. */
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

/** The session that asks next: one that must, else, while questions are worth it, the first that has not heard of this generation. */
function chosen(queue: Queue): Seat | undefined {
  for (const seat of queue.owed) if (!seat.asking) return seat;
  if (queue.credits === 0) return undefined;
  for (const seat of queue.seats.values()) {
    if (!seat.asking && seat.seen < queue.generation) return seat;
  }
  // Those who are asking may be heard to say "dry" and have to ask once more for a wake that came since: keep their credits.
  if (queue.asking === queue.resting) queue.credits = 0;
  return undefined;
}
