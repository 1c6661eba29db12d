/**
 * Thousands of machines in one child process, which speak the real protocol of our own agent and do no work.
 *
 * Everything between the coordinator and a machine is real: TLS, registration, keep-alives, picked-up connections, the
 * buildlet's API. Only what a machine would do is left out: every call succeeds at once, and an exec prints `output`.
 * A machine that is disconnected dials again at once.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { own } from "./program.ts";
import { until } from "./wait.ts";

export interface FleetOptions {
  readonly host: string;
  readonly port: number;
  readonly ca: string;
  readonly hostType: string;
  readonly key: string;
  readonly digest: string;
  /** Machines are called PREFIX-0, PREFIX-1, ... */
  readonly prefix: string;
  readonly count: number;
  readonly output: string;
  /** A command prints and then goes on, until it is asked for a second time. */
  readonly hold?: boolean;
}

export type FleetOrder = ({ readonly do: "start" } & FleetOptions) | { readonly do: "drop" };

export interface FleetState {
  connected: number;
  /** Registrations that succeeded, and dials that did not, since the start. */
  joins: number;
  failures: number;
  lastFailure: string;
  execs: number;
  /** Commands that were asked for again. */
  resumed: number;
}

export class SimulatedMachines implements AsyncDisposable {
  readonly #child: ChildProcess;
  #state: FleetState = { connected: 0, joins: 0, failures: 0, lastFailure: "", execs: 0, resumed: 0 };

  constructor(options: FleetOptions) {
    const program = fileURLToPath(new URL("./simulated-machines-process.ts", import.meta.url));
    this.#child = fork(program, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    own(this.#child);
    this.#child.on("message", (state: FleetState) => {
      this.#state = state;
    });
    this.#send({ do: "start", ...options });
  }

  get state(): Readonly<FleetState> {
    return this.#state;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Every machine hangs up and dials again. */
  drop(): void {
    this.#send({ do: "drop" });
  }

  /** Resolves when exactly `count` are connected. */
  async connected(count: number, limitMs: number, signal: AbortSignal): Promise<void> {
    const what = () =>
      `${count} simulated machines: ${this.#state.connected} are connected, ${this.#state.failures} dials failed (${this.#state.lastFailure || "no reason"})`;
    await until(() => this.#state.connected === count, { signal, limitMs, what });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.kill("SIGTERM");
    await gone;
  }

  #send(order: FleetOrder): void {
    this.#child.send(order);
  }
}
