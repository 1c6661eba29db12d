/**
 * This computer as a machine of its own farm: a real `stage0` and `buildlet` that dial in like anybody else's.
 *
 * We are its supervisor: when the program ends (it does when there is a newer one to fetch), it is started again, with
 * a growing pause while it keeps failing. Its output goes to DATA/local/NAME.log.
 *
 * It gets little of our environment (local-environment.ts) and its key in a file that it deletes when it has read it:
 * builds run as the same user.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { localEnvironment } from "./local-environment.ts";

const FIRST_PAUSE = ms(100);
const LONGEST_PAUSE = seconds(30);
/** A program that ran for this long has started well. */
const GOOD_RUN = seconds(20);
const STOP_LIMIT = seconds(5);

export interface LocalMachineOptions {
  readonly name: string;
  readonly hostType: string;
  /** The coordinator on this computer, as HOST:PORT. */
  readonly coordinator: string;
  /** The key to register with. It is written to a file of mode 0600 that only the program knows. */
  readonly key: string;
  readonly caFile: string;
  /** The launcher, which is a single file. */
  readonly stage0: string;
  /** The folder DATA/local, for work folder, downloaded agent, and log. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Log;
}

export class LocalMachine implements AsyncDisposable {
  readonly #options: LocalMachineOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #child: ChildProcess | undefined;

  constructor(options: LocalMachineOptions) {
    this.#options = options;
    this.#loop = this.#supervise();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    const child = this.#child;
    if (child) {
      child.kill("SIGTERM");
      const late = new AbortController();
      const insist = this.#options.clock.sleep(STOP_LIMIT, late.signal).then(
        () => child.kill("SIGKILL"),
        () => false,
      );
      await this.#loop;
      late.abort();
      await insist;
    }
    await this.#loop;
  }

  async #supervise(): Promise<void> {
    const { clock, log, name } = this.#options;
    let pause: Ms = FIRST_PAUSE;
    while (!this.#stop.signal.aborted) {
      const started = clock.monotonic();
      try {
        const ended = await this.#run();
        if (this.#stop.signal.aborted) return;
        log.info({ machine: name, ended }, "The local machine's program ended; starting it again");
      } catch (error) {
        log.error({ machine: name, error }, "Cannot start the local machine's program");
      }
      pause = clock.monotonic() - started > GOOD_RUN ? FIRST_PAUSE : ms(Math.min(pause * 2, LONGEST_PAUSE));
      await clock.sleep(pause, this.#stop.signal).catch(() => {});
    }
  }

  /** Runs the program once. Resolves with how it ended. */
  async #run(): Promise<string> {
    const { folder, name, hostType, coordinator, caFile, stage0, key } = this.#options;
    const work = join(folder, "work");
    await mkdir(work, { recursive: true });
    const keyFile = join(folder, "key");
    await writeFile(keyFile, key, { mode: 0o600 });
    await using output = await open(join(folder, `${name}.log`), "a");
    if (this.#stop.signal.aborted) return "stopped";
    const flags = [
      `-coordinator=${coordinator}`,
      `-reverse-type=${hostType}`,
      `-hostname=${name}`,
      `-ca-file=${caFile}`,
      `-workdir=${work}`,
      "-health-addr=127.0.0.1:0",
      "-halt=false",
      "-reboot=false",
      "-reconnect=0s", // it is ours and ends with us; the next coordinator starts a new one in the same folder
    ];
    const child = spawn(process.execPath, [stage0, ...flags], {
      cwd: folder,
      stdio: ["ignore", output.fd, output.fd],
      detached: true, // so that only the coordinator gets Ctrl-C
      env: {
        ...localEnvironment(process.env, process.platform),
        GO_BUILD_KEY_PATH: keyFile,
        GO_BUILD_KEY_DELETE_AFTER_READ: "1",
      },
    });
    this.#child = child;
    return await new Promise<string>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(signal ?? `exit status ${code}`));
    });
  }
}
