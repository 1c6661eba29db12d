/** The command, typed on a computer of its own: a home folder, an environment, and its output. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../agent/system-clock.ts";
import type { Clock } from "../../farm/clock.ts";
import { gomote } from "../gomote.ts";
import { type FakeFarm, TOKEN } from "./fake-farm.ts";

export interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TypedOptions {
  readonly env?: { readonly [name: string]: string };
  readonly cwd?: string;
  readonly stdin?: string;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** Called with each piece that is printed. */
  readonly onData?: (piece: string) => void | Promise<void>;
}

export class TestComputer implements AsyncDisposable {
  readonly home: string;
  readonly env: { readonly [name: string]: string };

  private constructor(home: string, env: { readonly [name: string]: string }) {
    this.home = home;
    this.env = env;
  }

  /** Starts a computer whose user is logged in to `farm`. */
  static async start(farm: FakeFarm): Promise<TestComputer> {
    const home = await mkdtemp(join(tmpdir(), "barnraiser-home-"));
    for (const folder of ["temp", "cwd"]) await mkdir(join(home, folder));
    const env = {
      HOME: home,
      PATH: process.env.PATH ?? "",
      GOMOTE_SERVER: farm.name,
      GOMOTE_CA_FILE: farm.caFile,
      GOMOTE_TOKEN: TOKEN,
    };
    return new TestComputer(home, env);
  }

  /** The folder CFG/gomote. */
  get config(): string {
    return join(this.home, ".config", "gomote");
  }

  get cwd(): string {
    return join(this.home, "cwd");
  }

  /** Runs `gomote` with these arguments. */
  async gomote(argv: readonly string[], options: TypedOptions = {}): Promise<Said> {
    let stdout = "";
    let stderr = "";
    const status = await gomote(argv, {
      env: { ...this.env, ...options.env },
      platform: process.platform,
      cwd: options.cwd ?? this.cwd,
      tempFolder: join(this.home, "temp"),
      clock: options.clock ?? systemClock,
      output: {
        data: async (piece) => {
          const text = typeof piece === "string" ? piece : Buffer.from(piece).toString();
          stdout += text;
          await options.onData?.(text);
        },
        note: (line) => {
          stderr += `${line.replaceAll(/^/gm, "# ")}\n`;
        },
        usage: (text) => {
          stderr += text;
        },
      },
      stdin: (async function* () {
        yield Buffer.from(options.stdin ?? "");
      })(),
      signal: options.signal ?? new AbortController().signal,
    });
    return { status, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.home, { recursive: true, force: true });
  }
}
