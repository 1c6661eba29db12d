/**
 * The PostgreSQL that several coordinators of a test share, as one of their operator's own would be, and what may become of it:
 *
 *   restarted   it ends, in order or at once, and is started again by itself within moments
 *   stopped     it ends, and nothing takes connections until it is started again
 *   silent      it takes connections and answers nobody, as a server behind a broken network does
 */
import { readFile, rm } from "node:fs/promises";
import type pg from "pg";
import { EmbeddedServer } from "../../src/store/embedded-server.ts";
import { systemClock } from "../../src/store/system-clock.ts";
import { memoryFolder } from "../../src/store/testing/memory-folder.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

export type Outage = "stopped" | "silent";

export class SharedDatabase implements AsyncDisposable {
  readonly #data: string;
  #server: EmbeddedServer;
  /** Processes that are paused. */
  #paused: readonly number[] = [];

  private constructor(data: string, server: EmbeddedServer) {
    this.#data = data;
    this.#server = server;
  }

  static async start(): Promise<SharedDatabase> {
    const data = await memoryFolder("shared");
    return new SharedDatabase(data, await serve(data));
  }

  get connection(): pg.ClientConfig {
    return this.#server.connection;
  }

  /** As DATABASE_URL. */
  get url(): string {
    const { host, user, password, database } = this.connection;
    return `postgres://${user}:${password}@localhost/${database}?host=${encodeURIComponent(host ?? "")}`;
  }

  restart(signal: "SIGINT" | "SIGQUIT"): void {
    if (this.#server.pid !== undefined) process.kill(this.#server.pid, signal);
  }

  async leave(how: Outage): Promise<void> {
    if (how === "stopped") {
      await this.#server[Symbol.asyncDispose]();
      return;
    }
    const postmaster = this.#server.pid ?? 0;
    process.kill(postmaster, "SIGSTOP"); // first, so that it makes no further ones
    const children = await readFile(`/proc/${postmaster}/task/${postmaster}/children`, "utf8");
    this.#paused = [postmaster, ...children.trim().split(" ").map(Number)];
    for (const pid of this.#paused) process.kill(pid, "SIGSTOP");
  }

  async comeBack(how: Outage): Promise<void> {
    if (how === "stopped") this.#server = await serve(this.#data);
    else this.#goOn();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#goOn();
    await this.#server[Symbol.asyncDispose]();
    await rm(this.#data, { recursive: true, force: true });
  }

  #goOn(): void {
    for (const pid of this.#paused) process.kill(pid, "SIGCONT");
    this.#paused = [];
  }
}

function serve(data: string): Promise<EmbeddedServer> {
  const settings = { max_connections: "120", shared_buffers: "128MB" };
  return EmbeddedServer.start({ data, clock: systemClock, log: quiet, settings });
}
