/** A buildlet in this process, in a work dir of its own, registered with an original coordinator. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Environment } from "../../dial/proxy.ts";
import type { Clock } from "../../farm/clock.ts";
import { parseFlags } from "../../farm/flags.ts";
import { runBuildlet } from "../buildlet.ts";
import { BUILDLET_FLAGS } from "../buildlet-flags.ts";
import { systemClock } from "../system-clock.ts";
import { OriginalCoordinator } from "./original-coordinator.ts";

export interface TestMachineOptions {
  readonly flags?: readonly string[];
  readonly env?: Environment;
  readonly clock?: Clock;
  /** The coordinator. By default one is started, and stopped with this machine. */
  readonly coordinator?: OriginalCoordinator;
  readonly address?: string;
}

export class TestMachine implements AsyncDisposable {
  readonly coordinator: OriginalCoordinator;
  readonly workDir: string;
  readonly log: string[] = [];
  /** The listener's port in listen mode. */
  readonly listening: Promise<number>;
  /** Settles when the buildlet has ended; rejects with why it could not begin. */
  readonly ended: Promise<void>;
  readonly #stop = new AbortController();
  readonly #folder: string;
  readonly #owns: boolean;

  private constructor(coordinator: OriginalCoordinator, owns: boolean, folder: string, options: TestMachineOptions) {
    this.coordinator = coordinator;
    this.#owns = owns;
    this.#folder = folder;
    this.workDir = join(folder, "workdir-host-test");
    const address = options.address ?? `127.0.0.1:${coordinator.port}`;
    const flags = [
      `-coordinator=${address}`,
      "-reverse-type=host-test",
      "-halt=false",
      "-health-addr=127.0.0.1:0",
      ...(options.flags ?? []),
    ];
    const parsed = parseFlags("", BUILDLET_FLAGS, flags);
    if (parsed.kind === "stop") throw new Error(parsed.text);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.listening = promise;
    this.ended = runBuildlet(
      parsed.values,
      {
        clock: options.clock ?? systemClock,
        env: { TMPDIR: folder, HOME: folder, HOSTNAME: "test-machine", ...options.env },
        platform: process.platform,
        uid: process.getuid?.(),
        program: undefined,
        log: (line) => this.log.push(line),
        listening: resolve,
      },
      this.#stop.signal,
    );
    this.ended.catch(() => {});
  }

  /** Starts a machine without waiting for its registration. */
  static async start(options: TestMachineOptions = {}): Promise<TestMachine> {
    const folder = await mkdtemp(join(tmpdir(), "test-machine-"));
    const coordinator = options.coordinator ?? (await OriginalCoordinator.start());
    return new TestMachine(coordinator, options.coordinator === undefined, folder, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("The test is over"));
    await this.ended.catch(() => {});
    if (this.#owns) await this.coordinator[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
