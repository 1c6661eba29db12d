/** One connected machine, as the reverse pool keeps it. Only the pool changes it. */
import type { EpochMs, MachineId, SessionId } from "../../farm/ids.ts";
import { RESUME_VERSION } from "../../wire/buildlet-api/execution.ts";
import type { HttpBuildlet } from "../buildlet/client.ts";
import type { MachineSession, SessionView } from "../machine-session.ts";
import type { Dialer } from "../revdial/dialer.ts";
import type { Introduction } from "./introduction.ts";
import type { Mode, Situation } from "./session-mode.ts";

export class Session {
  readonly id: SessionId;
  readonly introduction: Introduction;
  /** The id of the machine's own key; null: it came with the shared key. */
  readonly keyId: string | null;
  readonly address: string;
  readonly openedAt: EpochMs;
  readonly dialer: Dialer;
  readonly client: HttpBuildlet;
  readonly gone: AbortController;
  mode: Mode = "joining";
  since: EpochMs;
  version: number;
  machineId: MachineId | undefined;
  /** Resolves when the machine has shown that it lives. */
  readonly alive: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  /** When to ask the original for its status next, on the monotonic clock; undefined while it is being asked. */
  checkAt: number | undefined;
  misses = 0;
  /** Until when (monotonic) it is left alone, to be given a lease that it has from before it was offered. */
  holdsUntil: number = Number.NEGATIVE_INFINITY;

  constructor(
    given: Pick<Session, "id" | "introduction" | "keyId" | "address" | "openedAt" | "dialer" | "client" | "gone">,
  ) {
    this.id = given.id;
    this.introduction = given.introduction;
    this.keyId = given.keyId;
    this.address = given.address;
    this.openedAt = given.openedAt;
    this.since = given.openedAt;
    this.dialer = given.dialer;
    this.client = given.client;
    this.gone = given.gone;
    this.version = given.introduction.version;
    this.alive.promise.catch(() => {}); // it may reject before anybody waits for it
  }

  get agent(): "barnraiser" | "original" {
    return this.introduction.agent ? "barnraiser" : "original";
  }

  /** Whether its commands can outlive their connections. */
  get resumes(): boolean {
    const { agent } = this.introduction;
    return agent !== undefined && agent.resume >= RESUME_VERSION && agent.instance !== "";
  }

  /** The name of the machine, the same for all its sessions. */
  get machine(): string {
    return `${this.introduction.hostType}/${this.introduction.name}`;
  }

  /** The id of the agent process, if it sent one. A process has one connection at a time. */
  get process(): string | undefined {
    const instance = this.introduction.agent?.instance;
    return instance ? `${this.machine} ${instance}` : undefined;
  }

  situation(served: string | undefined, sentFor: string | undefined): Situation {
    const digest = this.introduction.agent?.digest ?? "";
    return {
      mode: this.mode,
      agent: this.agent,
      checkAt: this.checkAt,
      holdsUntil: this.holdsUntil,
      digest,
      served,
      sentFor,
    };
  }

  /** The session as the farm sees it; undefined before the database knows the machine. */
  face(): MachineSession | undefined {
    if (this.machineId === undefined) return undefined;
    return {
      id: this.id,
      machineId: this.machineId,
      hostType: this.introduction.hostType,
      name: this.introduction.name,
      agent: this.agent,
      resumes: this.resumes,
      client: this.client,
      gone: this.gone.signal,
    };
  }

  view(): SessionView {
    return {
      id: this.id,
      machineId: this.machineId,
      hostType: this.introduction.hostType,
      name: this.introduction.name,
      agent: this.agent,
      version: this.version,
      address: this.address,
      mode: this.mode,
      openedAt: this.openedAt,
      since: this.since,
    };
  }
}
