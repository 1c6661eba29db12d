/** A machine of a test, whose agent is started again whenever it ends, as stage0 would. */
import type { Process } from "./process.ts";

export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly #start: () => Process;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #process: Process;
  #before = "";
  /** How often the agent was killed. */
  kills = 0;

  constructor(name: string, start: () => Process) {
    this.name = name;
    this.#start = start;
    this.#process = start();
    this.#loop = this.#supervise();
  }

  /** SIGKILL is for good for what it ran; SIGSTOP and SIGCONT are a pause. */
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    if (signal === "SIGKILL") this.kills++;
    this.#process.kill(signal);
  }

  /** Of all its processes. */
  get output(): string {
    return this.#before + this.#process.output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#process[Symbol.asyncDispose]();
    await this.#loop;
  }

  async #supervise(): Promise<void> {
    for (;;) {
      const ended = await this.#process.exited;
      await new Promise((resolve) => setTimeout(resolve, 200));
      if (this.#stop.signal.aborted) return;
      this.#before = `${this.output}(${ended})\n`;
      this.#process = this.#start();
    }
  }
}
