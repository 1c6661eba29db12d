/**
 * The reverse pool: machines that dial us, because nothing can dial them.
 *
 * A machine behind NAT (a Mac on a shelf, a board in a drawer) opens one connection to /reverse, says what it is and shows its key. We
 * answer 101 and from then on ask it over that connection for others (../revdial/dialer.ts), on which its buildlet serves
 * HTTP (../buildlet/). Each connection that registered is a session; the modes of one are in session-mode.ts.
 *
 * Our own agent says so and serves build after build. The original serves one: it is halted and comes back as a new session.
 * Two sessions of one name are both kept and shown, as their owner has to sort them out, not we.
 *
 * A machine whose commands outlive connections may come back with one that runs, over a new session: it says so by its agent's
 * instance (../../store/machines.ts `holds`), is asked for work at once, and nothing is done to it before that. One whose work was ended
 * while it was away (`unneeded`) is emptied before it is offered.
 *
 * A connection that another coordinator passed on to us ends when that one does. Whoever uses it is then told so: the machine is well.
 *
 * Always: `idle` is told of a session each time that it becomes free, and `gone` exactly once when it ends after having been offered;
 * a session that was taken is released once; every end has a reason in the database, in words for the machine's owner.
 */
import { randomBytes } from "node:crypto";
import { FarmError, messageOf } from "../../farm/errors.ts";
import {
  type CoordinatorId,
  coordinatorId,
  type Ms,
  minutes,
  type SessionId,
  seconds,
  sessionId,
} from "../../farm/ids.ts";
import type { PickUp, Refusal } from "../../peers/forwarder.ts";
import type { Peers } from "../../peers/peers.ts";
import { endedMachineKeys } from "../../store/keys.ts";
import { encodeResponseHead, fieldValues, type RequestHead } from "../../wire/revdial/http-head.ts";
import { FORWARDED_HEADER, OLDEST_BUILDLET, PONG_HEADER, parseConnPath } from "../../wire/revdial/registration.ts";
import { HttpBuildlet } from "../buildlet/client.ts";
import type { MachineDoor, MachineSocket } from "../door.ts";
import type { Claimant, KeyCheck } from "../keys.ts";
import type { MachineSession, SessionView } from "../machine-session.ts";
import { Dialer } from "../revdial/dialer.ts";
import { answer } from "./answer.ts";
import { type Introduction, readIntroduction } from "./introduction.ts";
import { Registry, type RegistryDeps } from "./registry.ts";
import { Session } from "./session.ts";
import { afterBuild, BUSY_MISSES, CHECK_LIMIT, nextCheck, nextStep } from "./session-mode.ts";

const TICK: Ms = seconds(1);
/** How long a machine may take to go after it was told to. */
const HALT_LIMIT: Ms = seconds(5);
/** How long a machine may take to remove what was built on it. */
const EMPTY_LIMIT: Ms = minutes(10);
/** How long a machine that came back with a lease may take to be given it; the database may be slow. */
const HOLDS_FOR: Ms = seconds(60);
/** Machines sent to fetch a new agent program, per tick: not all at once. */
const RENEWED_AT_ONCE = 20;
const KEYS_LOOKED_AT_EVERY: Ms = seconds(60);

export interface ReversePoolDeps extends RegistryDeps {
  readonly check: (claimant: Claimant) => Promise<KeyCheck>;
  /** Whom a host type's machines belong to, if the configuration says. */
  readonly owner: (hostType: string) => string | null;
  /** SHA-256 of the agent program that the coordinator serves now. */
  readonly agentDigest: () => string | undefined;
  /** Passes a pick-up on to the coordinator whose it is; resolves with what to answer when that cannot be done. */
  readonly forward: (pickUp: PickUp) => Promise<Refusal | undefined>;
  readonly peers: Pick<Peers, "find" | "answers">;
  /** A session has no work, unless it `holds` some from before its machine came back. Offer it. */
  readonly idle: (session: MachineSession, holds: boolean) => void;
  /** A session that was offered is gone, or leaves. */
  readonly gone: (session: SessionId) => void;
}

export class ReversePool implements MachineDoor, AsyncDisposable {
  readonly #deps: ReversePoolDeps;
  readonly #registry: Registry;
  readonly #sessions = new Map<SessionId, Session>();
  /** Dialer id -> session. The ids are random, so looking one up tells nothing of another. */
  readonly #dialers = new Map<string, Session>();
  /** Connections that other coordinators passed on to us, and which; undefined: none that lived, whatever the machine says. */
  readonly #carriers = new WeakMap<MachineSocket, Promise<CoordinatorId | undefined>>();
  /** Machine -> digest of the agent program that it was last sent to fetch. */
  readonly #sentFor = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<unknown>>();
  #keysLookedAt: number;

  constructor(deps: ReversePoolDeps) {
    this.#deps = deps;
    this.#registry = new Registry(deps);
    this.#keysLookedAt = deps.clock.monotonic();
    this.#spawn(this.#ticks());
    deps.bus.subscribe("key:", () => this.#spawn(this.#dropEndedKeys()), this.#stop.signal);
  }

  /** Sessions that are offered, in use or leaving; in the order in which they came. */
  sessions(): readonly SessionView[] {
    return [...this.#sessions.values()].filter(({ mode }) => mode !== "joining").map((session) => session.view());
  }

  /** The session, for one build, which must `release` it. Undefined: it is gone, or going. */
  take(id: SessionId): MachineSession | undefined {
    const session = this.#sessions.get(id);
    const face = session?.face();
    if (!session || !face || session.mode !== "idle") return undefined;
    session.holdsUntil = Number.NEGATIVE_INFINITY;
    this.#enter(session, "busy");
    return face;
  }

  /** Whether somebody has taken it, and has not given it back. */
  inUse(id: SessionId): boolean {
    return this.#sessions.get(id)?.mode === "busy";
  }

  /**
   * Gives a session back after a build. `broken`: the build found that the machine does not do what it should. `kept`: it has a lease already, of
   * who goes on with it as it is. `elsewhere`: the build goes on over another session, which the machine has already or comes back with.
   */
  async release(id: SessionId, how: "clean" | "broken" | "kept" | "elsewhere"): Promise<void> {
    const session = this.#sessions.get(id);
    if (session?.mode !== "busy") return; // it went away meanwhile
    if (how === "elsewhere") {
      session.dialer.close("its build goes on over another connection");
      return;
    }
    if (how === "kept") session.holdsUntil = this.#deps.clock.monotonic() + HOLDS_FOR;
    const next = how === "kept" ? "idle" : afterBuild(this.#situation(session), how);
    if (next === "idle") {
      this.#enter(session, "idle");
      this.#offer(session);
      return;
    }
    if (next === "renew") await this.#renew(session);
    else if (next === "halt")
      await this.#halt(session, "served its build; the original buildlet serves one per connection");
    else await this.#halt(session, "its last build could not use it");
  }

  reverse(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void {
    this.#spawn(this.#register(socket, head, rest));
  }

  revdial(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void {
    socket.on("error", () => {}); // whoever uses it hears of its end
    if (head.method !== "GET") {
      answer(socket, 405, "Want GET.", [["Allow", "GET"]]);
      return;
    }
    const path = parseConnPath(head.target);
    if (path?.coordinator !== undefined && path.coordinator !== this.#deps.coordinator) {
      this.#spawn(this.#forward(socket, head, rest, coordinatorId(path.coordinator)));
      return;
    }
    const session = path && this.#dialers.get(path.dialer);
    if (!path || !session?.dialer.is(path.dialer)) {
      answer(socket, 400, "Unknown dialer: the session that this connection is for has ended.");
      return;
    }
    if (rest.length > 0) socket.unshift(rest);
    const [carrier] = fieldValues(head, FORWARDED_HEADER);
    if (carrier !== undefined) this.#carriers.set(socket, this.#living(coordinatorId(carrier)));
    if (!session.dialer.deliver(path.dial, socket)) answer(socket, 400, "Nobody waits for this connection any more.");
  }

  /** The pick-up is another coordinator's: the one that it reached is whichever the farm's address led to. */
  async #forward(socket: MachineSocket, head: RequestHead, rest: Uint8Array, owner: CoordinatorId): Promise<void> {
    const refusal = await this.#deps.forward({ owner, head, socket, rest });
    if (!refusal) return;
    this.#deps.log.info({ coordinator: owner, reason: refusal.reason }, "Could not pass a pick-up on");
    answer(socket, refusal.status, refusal.reason);
  }

  async #carrierEnded(socket: MachineSocket): Promise<string | undefined> {
    const carrier = await this.#carriers.get(socket);
    if (carrier === undefined || (await this.#deps.peers.answers(carrier))) return undefined;
    return `Coordinator ${carrier}, which passed its connection on, ended`;
  }

  async #living(coordinator: CoordinatorId): Promise<CoordinatorId | undefined> {
    return (await this.#deps.peers.find(coordinator)) && coordinator;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const session of [...this.#sessions.values()]) session.dialer.close("the coordinator ended");
    await Promise.allSettled(this.#work);
    await this.#registry.settled();
  }

  async #register(socket: MachineSocket, head: RequestHead, rest: Uint8Array): Promise<void> {
    socket.on("error", () => {}); // its end is heard of elsewhere
    const { check, log } = this.#deps;
    const address = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? "?"}`;
    const read = readIntroduction(head);
    if (read.kind === "refused") {
      log.info({ address, status: read.refusal.status, reason: read.refusal.reason }, "Refused a registration");
      answer(socket, read.refusal.status, read.refusal.reason);
      return;
    }
    const { introduction } = read;
    const { name, hostType } = introduction;
    let checked: KeyCheck;
    try {
      checked = await check(introduction);
    } catch (error) {
      log.warn({ address, name, hostType, error: messageOf(error) }, "Could not check a machine's key");
      answer(socket, 503, "The coordinator cannot check the key now; try again.");
      return;
    }
    if (!checked.ok) {
      log.info({ address, name, hostType, reason: checked.reason }, "Refused a machine's key");
      answer(socket, 412, checked.reason);
      return;
    }
    if (socket.destroyed || this.#stop.signal.aborted) {
      socket.destroy();
      return;
    }
    this.#open(socket, introduction, checked.keyId, address, rest);
  }

  #open(
    socket: MachineSocket,
    introduction: Introduction,
    keyId: string | null,
    address: string,
    rest: Uint8Array,
  ): void {
    const { clock } = this.#deps;
    const id = sessionId(randomBytes(16).toString("hex"));
    const dialerId = randomBytes(16).toString("hex"); // a secret, unlike the session's id
    const gone = new AbortController();
    const dialer = new Dialer({
      id: dialerId,
      coordinator: this.#deps.coordinator,
      name: introduction.name,
      socket,
      pongs: introduction.agent !== undefined,
      clock,
      onPong: () => session.alive.resolve(),
      onClosed: (why, error) => this.#closed(session, dialerId, why, error),
    });
    const client = new HttpBuildlet({
      name: introduction.name,
      clock,
      dial: (signal) => dialer.connection(signal),
      gone: gone.signal,
      carrierEnded: (used) => this.#carrierEnded(used),
    });
    const openedAt = clock.now();
    const session = new Session({ id, introduction, keyId, address, openedAt, dialer, client, gone });
    this.#supersede(session);
    this.#sessions.set(id, session);
    this.#dialers.set(dialerId, session);
    // Alone in its record: whatever comes together with the head is thrown away by the original.
    const fields = introduction.agent ? [[PONG_HEADER, "1"] as const] : [];
    socket.write(encodeResponseHead(101, "Switching Protocols", fields), () => {
      dialer.start(rest);
      this.#spawn(this.#join(session));
    });
  }

  /** Until a session is offered: it lives, it speaks a version that we can drive, the database knows it, it runs nothing for nobody. */
  async #join(session: Session): Promise<void> {
    const { log } = this.#deps;
    const { introduction, dialer, agent } = session;
    const { name, hostType } = introduction;
    try {
      if (agent === "original") session.version = (await this.#status(session)).version;
      if (session.version < OLDEST_BUILDLET) {
        log.info({ name, hostType, version: session.version }, "Closed a session: its buildlet is too old");
        dialer.close(`buildlet version ${session.version} is too old; want ${OLDEST_BUILDLET} or newer`);
        return;
      }
      const opened = this.#registry.open({
        session: session.id,
        hostType,
        name,
        owner: this.#deps.owner(hostType),
        keyId: session.keyId,
        agent,
        version: session.version,
        digest: introduction.agent?.digest || null,
        platform: introduction.agent?.platform || null,
        instance: session.resumes ? (introduction.agent?.instance ?? null) : null,
        ip: session.address.replace(/:[^:]*$/, ""),
        address: session.address,
      });
      if (dialer.closed) this.#registry.close(session.id, this.#deps.clock.now(), "it closed the connection");
      if (agent === "barnraiser") await session.alive.promise;
      const known = await opened;
      session.machineId = known.machine;
      if (known.holds) session.holdsUntil = this.#deps.clock.monotonic() + HOLDS_FOR;
      else if (known.unneeded) await this.#empty(session);
      if (dialer.closed) return;
      if (introduction.agent?.digest === this.#deps.agentDigest()) this.#sentFor.delete(session.machine);
      this.#enter(session, "idle");
      log.info({ session: session.id, name, hostType, agent, version: session.version }, "A machine joined");
      this.#offer(session);
    } catch (error) {
      if (dialer.closed) return;
      log.warn({ name, hostType, error: messageOf(error) }, "A machine could not join");
      dialer.close(`could not join: ${error instanceof FarmError ? error.message : "internal error"}`);
    }
  }

  /** An agent process has one connection at a time: when it is here again, the one before is dead, whatever TCP believes. */
  #supersede({ machine, introduction }: Session): void {
    const instance = introduction.agent?.instance;
    if (!instance) return;
    for (const earlier of [...this.#sessions.values()]) {
      if (earlier.machine !== machine || earlier.introduction.agent?.instance !== instance) continue;
      earlier.dialer.close("the machine came back over a new connection");
    }
  }

  #offer(session: Session): void {
    const face = session.face();
    if (face) this.#deps.idle(face, session.holdsUntil > this.#deps.clock.monotonic());
  }

  #closed(session: Session, dialerId: string, why: string, error: FarmError): void {
    const offered = session.mode !== "joining" && session.mode !== "leaving";
    const { log, gone, clock } = this.#deps;
    this.#sessions.delete(session.id);
    this.#dialers.delete(dialerId);
    session.alive.reject(error);
    session.gone.abort(error);
    session.client.tick();
    const { name, hostType } = session.introduction;
    log.info({ session: session.id, name, hostType, reason: why }, "A session ended");
    this.#registry.close(session.id, clock.now(), why);
    if (offered) gone(session.id);
  }

  #enter(session: Session, mode: Session["mode"]): void {
    const { clock, bus } = this.#deps;
    session.mode = mode;
    session.since = clock.now();
    session.misses = 0;
    session.dialer.busy = mode === "busy";
    if (session.checkAt !== undefined || mode === "idle") {
      session.checkAt = nextCheck(mode, clock.monotonic(), Math.random());
    }
    if (session.machineId !== undefined) bus.publish(`machine:${session.machineId}`);
  }

  /** Tells the machine to end the session, and ends it from this side. */
  async #halt(session: Session, why: string): Promise<void> {
    const offered = session.mode === "idle";
    this.#enter(session, "leaving");
    if (offered) this.#deps.gone(session.id);
    const done = new AbortController();
    const limit = this.#deps.clock.sleep(HALT_LIMIT, done.signal).catch(() => {});
    await Promise.race([session.client.halt(), limit]);
    done.abort();
    session.dialer.close(why);
  }

  async #renew(session: Session): Promise<void> {
    const served = this.#deps.agentDigest();
    if (served !== undefined) this.#sentFor.set(session.machine, served);
    await this.#halt(session, "sent to fetch the newer agent program");
  }

  #situation(session: Session): ReturnType<Session["situation"]> {
    return session.situation(this.#deps.agentDigest(), this.#sentFor.get(session.machine));
  }

  async #ticks(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(TICK, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        this.#tick();
      } catch (error) {
        log.error({ error: messageOf(error) }, "A round of the reverse pool failed");
      }
    }
  }

  #tick(): void {
    const now = this.#deps.clock.monotonic();
    let renewed = 0;
    for (const session of [...this.#sessions.values()]) {
      session.dialer.tick();
      if (session.dialer.closed) continue;
      session.client.tick();
      const step = nextStep(this.#situation(session), now);
      if (step === "check") this.#spawn(this.#check(session));
      if (step === "renew" && renewed++ < RENEWED_AT_ONCE) this.#spawn(this.#renew(session));
    }
    if (now - this.#keysLookedAt >= KEYS_LOOKED_AT_EVERY) {
      this.#keysLookedAt = now;
      this.#spawn(this.#dropEndedKeys());
    }
  }

  /** Asks an original machine for its status, and draws the consequences. */
  async #check(session: Session): Promise<void> {
    session.checkAt = undefined;
    let error: unknown;
    try {
      await this.#status(session);
    } catch (caught) {
      error = caught;
    }
    if (session.dialer.closed || session.mode === "leaving") return;
    session.misses = error === undefined ? 0 : session.misses + 1;
    if (error !== undefined && (session.mode === "idle" || session.misses >= BUSY_MISSES)) {
      session.dialer.close(
        session.mode === "idle"
          ? "stopped answering: a health check failed"
          : `stopped answering: ${BUSY_MISSES} heartbeats failed`,
      );
      return;
    }
    session.checkAt = nextCheck(session.mode, this.#deps.clock.monotonic(), Math.random());
  }

  #status({ client }: Session): Promise<{ readonly version: number }> {
    return this.#within(CHECK_LIMIT, "GET /status", (limited) => client.status(limited));
  }

  /** Ends what it runs for nobody, before it is seen as one that has nothing to do. */
  #empty({ client }: Session): Promise<void> {
    return this.#within(EMPTY_LIMIT, "POST /removeall", (limited) => client.removeAll(["."], limited));
  }

  /** A call, connection and all, within `span`. */
  async #within<T>(span: Ms, what: string, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const limit = new AbortController();
    const done = new AbortController();
    const late = () => limit.abort(new FarmError("machine-gone", `no answer to ${what} within ${span / 1000} s`));
    const timer = this.#deps.clock.sleep(span, done.signal).then(late, () => {});
    try {
      return await call(limit.signal);
    } finally {
      done.abort();
      await timer;
    }
  }

  /** Ends sessions whose machine's key was revoked or has expired. */
  async #dropEndedKeys(): Promise<void> {
    const { sql, clock, log } = this.#deps;
    const ids = new Set([...this.#sessions.values()].flatMap(({ keyId }) => keyId ?? []));
    if (ids.size === 0) return;
    try {
      const ended = new Set(await endedMachineKeys(sql, [...ids], clock.now()));
      for (const { keyId, dialer } of [...this.#sessions.values()]) {
        if (keyId !== null && ended.has(keyId)) dialer.close(`its key ${keyId} was revoked or has expired`);
      }
    } catch (error) {
      log.warn({ error: messageOf(error) }, "Could not look whether keys have ended");
    }
  }

  #spawn(work: Promise<unknown>): void {
    this.#work.add(work);
    void work
      .catch((error: unknown) => this.#deps.log.error({ error: messageOf(error) }, "Work for a machine failed"))
      .finally(() => this.#work.delete(work));
  }
}
