/**
 * The reverse pool: machines that dial us, because nothing can dial them.
 *
 * A machine behind NAT (a Mac on a shelf, a board in a drawer) opens one connection to /reverse, says what it is and
 * shows its key. We answer 101, and from then on use that connection to ask for others (../revdial/dialer.ts). On these
 * its buildlet serves HTTP (../buildlet/). Each connection that registered (admission.ts) is a session; its modes are
 * in session-mode.ts. The connections that we asked for are in pick-ups.ts.
 *
 * Our own agent says so and serves build after build. The original serves one: it is halted and comes back as a new
 * session. Two sessions of one name are both kept and shown: their owner has to sort them out, not we.
 *
 * A machine whose commands outlive connections may come back, over a new session, with a command that still runs. It
 * shows that by its agent's instance (../../store/machines.ts `holds`). It is offered for that work at once, and
 * nothing is done to it before. If the work was ended while it was away (`unneeded`), it is emptied before it is
 * offered.
 *
 * Always: `idle` is called for a session each time that it becomes free, and `gone` exactly once when it ends after
 * having been offered; a session that was taken is released once; every end has a reason in the database, written for
 * the machine's owner.
 */
import { randomBytes } from "node:crypto";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, minutes, type SessionId, seconds, sessionId } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { endedMachineKeys } from "../../store/keys.ts";
import { encodeResponseHead, type RequestHead } from "../../wire/revdial/http-head.ts";
import { OLDEST_BUILDLET, PONG_HEADER } from "../../wire/revdial/registration.ts";
import { HttpBuildlet } from "../buildlet/client.ts";
import type { MachineDoor, MachineSocket } from "../door.ts";
import type { MachineSession, SessionView } from "../machine-session.ts";
import { Dialer } from "../revdial/dialer.ts";
import { type AdmissionDeps, type Admitted, admit } from "./admission.ts";
import { PickUps, type PickUpsDeps } from "./pick-ups.ts";
import { Registry, type RegistryDeps } from "./registry.ts";
import { Session } from "./session.ts";
import { afterBuild, BUSY_MISSES, CHECK_LIMIT, nextCheck, nextStep } from "./session-mode.ts";

const TICK: Ms = seconds(1);
/** How long a machine may take to leave after it was told to. */
const HALT_LIMIT: Ms = seconds(5);
/** How long a machine may take to remove what was built on it. */
const EMPTY_LIMIT: Ms = minutes(10);
/** How long we wait until a machine that came back with a lease is given it: the database may be slow. */
const HOLDS_FOR: Ms = seconds(60);
/** How many machines are sent to fetch a new agent program per tick, so that not all go at once. */
const RENEWED_AT_ONCE = 20;
const KEYS_LOOKED_AT_EVERY: Ms = seconds(60);

export interface ReversePoolDeps extends RegistryDeps, AdmissionDeps, PickUpsDeps {
  /** A random number from 0 to below 1. It spreads the health checks of many machines. */
  readonly random: () => number;
  /** The owner of a host type's machines, if the configuration names one. */
  readonly owner: (hostType: string) => string | null;
  /** The SHA-256 of the agent program that the coordinator serves now. */
  readonly agentDigest: () => string | undefined;
  /** How long commands on a machine go on when nobody follows them. */
  readonly aloneFor: (hostType: string) => Ms;
  /** Offers a session that has no work, or `holds` some from before its machine came back. */
  readonly idle: (session: MachineSession, holds: boolean) => void;
  /** Called when a session that was offered is gone, or leaves. */
  readonly gone: (session: SessionId) => void;
}

export class ReversePool implements MachineDoor, AsyncDisposable {
  readonly #deps: ReversePoolDeps;
  readonly #registry: Registry;
  readonly #sessions = new Map<SessionId, Session>();
  /** Agent process → its session, for agents that name their process. */
  readonly #ofProcess = new Map<string, Session>();
  readonly #pickUps: PickUps;
  /** Machine → the digest of the agent program that it was last sent to fetch. */
  readonly #sentFor = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #work = new Set<Promise<unknown>>();
  #keysLookedAt: number;

  constructor(deps: ReversePoolDeps) {
    this.#deps = deps;
    this.#registry = new Registry(deps, this.#stop.signal);
    this.#pickUps = new PickUps(deps);
    this.#keysLookedAt = deps.clock.monotonic();
    this.#spawn(this.#ticks());
    deps.bus.subscribe("key:", () => this.#spawn(this.#dropEndedKeys()), this.#stop.signal);
  }

  /** The sessions that are offered, in use or leaving, in the order in which they came. */
  sessions(): readonly SessionView[] {
    return [...this.#sessions.values()].filter(({ mode }) => mode !== "joining").map((session) => session.view());
  }

  /** The session, for one build, which must `release` it. Undefined: the machine is gone, or leaves. */
  take(id: SessionId): MachineSession | undefined {
    const session = this.#sessions.get(id);
    const face = session?.face();
    if (!session || !face || session.mode !== "idle") return undefined;
    session.holdsUntil = Number.NEGATIVE_INFINITY;
    this.#enter(session, "busy");
    return face;
  }

  /** Whether the session is taken, and not given back yet. */
  inUse(id: SessionId): boolean {
    return this.#sessions.get(id)?.mode === "busy";
  }

  /**
   * Gives a session back after a build. `broken`: the build found that the machine does not work as it should. `kept`:
   * it has its next lease already, which goes on with the machine as it is. `elsewhere`: the build goes on over another
   * session of the machine, which exists already or will come.
   */
  async release(id: SessionId, how: "clean" | "broken" | "kept" | "elsewhere"): Promise<void> {
    const session = this.#sessions.get(id);
    if (session?.mode !== "busy") return; // the machine went away meanwhile
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
    this.#spawn(this.#pickUps.take(socket, head, rest));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const session of [...this.#sessions.values()]) session.dialer.close("the coordinator ended");
    await Promise.allSettled(this.#work);
    await this.#registry.settled();
  }

  async #register(socket: MachineSocket, head: RequestHead, rest: Uint8Array): Promise<void> {
    const admitted = await admit(this.#deps, socket, head);
    if (!admitted) return;
    if (socket.destroyed || this.#stop.signal.aborted) socket.destroy();
    else this.#open(socket, admitted, rest);
  }

  #open(socket: MachineSocket, admitted: Admitted, rest: Uint8Array): void {
    const { introduction } = admitted;
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
    const exchanges = {
      name: introduction.name,
      clock,
      log: this.#deps.log,
      dial: (signal: AbortSignal) => dialer.connection(signal),
      gone: gone.signal,
      carrierEnded: (used: MachineSocket) => this.#pickUps.carrierEnded(used),
    };
    const client = new HttpBuildlet(exchanges, () => this.#deps.aloneFor(introduction.hostType));
    const openedAt = clock.now();
    const session = new Session({ ...admitted, id, openedAt, dialer, client, gone });
    this.#supersede(session);
    this.#sessions.set(id, session);
    this.#pickUps.expect(dialerId, dialer);
    // The head is alone in its record: the original loses all that comes together with it.
    const fields = introduction.agent ? [[PONG_HEADER, "1"] as const] : [];
    socket.write(encodeResponseHead(101, "Switching Protocols", fields), () => {
      dialer.start(rest);
      this.#spawn(this.#join(session));
    });
  }

  /**
   * Prepares a session until it is offered: it lives, its version is one that we can drive, the database knows it, and
   * it runs nothing that nobody needs.
   */
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

  /** Ends the earlier session of an agent process. It has one connection at a time, so the earlier one is dead. */
  #supersede(session: Session): void {
    const { process } = session;
    if (process === undefined) return;
    this.#ofProcess.get(process)?.dialer.close("the machine came back over a new connection");
    this.#ofProcess.set(process, session);
  }

  #offer(session: Session): void {
    const face = session.face();
    if (face) this.#deps.idle(face, session.holdsUntil > this.#deps.clock.monotonic());
  }

  #closed(session: Session, dialerId: string, why: string, error: FarmError): void {
    const offered = session.mode !== "joining" && session.mode !== "leaving";
    const { log, gone, clock } = this.#deps;
    this.#sessions.delete(session.id);
    if (session.process !== undefined && this.#ofProcess.get(session.process) === session)
      this.#ofProcess.delete(session.process);
    this.#pickUps.forget(dialerId);
    session.alive.reject(error);
    session.gone.abort(error);
    session.client.tick();
    const { name, hostType } = session.introduction;
    log.info({ session: session.id, name, hostType, reason: why }, "A session ended");
    this.#registry.close(session.id, clock.now(), why);
    if (offered) gone(session.id);
  }

  #enter(session: Session, mode: Session["mode"]): void {
    const { clock, bus, random } = this.#deps;
    session.mode = mode;
    session.since = clock.now();
    session.misses = 0;
    session.dialer.busy = mode === "busy";
    if (session.checkAt !== undefined || mode === "idle") {
      session.checkAt = nextCheck(mode, clock.monotonic(), random());
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

  /** Asks an original machine for its status, and acts on the answer. */
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
    session.checkAt = nextCheck(session.mode, this.#deps.clock.monotonic(), this.#deps.random());
  }

  #status({ client }: Session): Promise<{ readonly version: number }> {
    return within(this.#deps.clock, CHECK_LIMIT, [], noAnswer("GET /status", CHECK_LIMIT), (limited) =>
      client.status(limited),
    );
  }

  /** Ends work that nobody needs any more, before the machine counts as idle. */
  #empty({ client }: Session): Promise<void> {
    return within(this.#deps.clock, EMPTY_LIMIT, [], noAnswer("POST /removeall", EMPTY_LIMIT), (limited) =>
      client.cleanUp(limited),
    );
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

function noAnswer(call: string, limit: Ms): FarmError {
  return new FarmError("machine-gone", `no answer to ${call} within ${limit / 1000} s`);
}
