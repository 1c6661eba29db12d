/**
 * A machine in memory: the contract of a machine's client, with scripted commands.
 *
 * A script says what a command does: its output, then how it ends.
 *
 *   hang      never ends until it is aborted
 *   die       the machine hangs up in the middle
 *   garbage   the machine answers what the protocol does not allow
 *   carrier   the coordinator that passed the machine's connection on has ended
 */
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { FarmError } from "../../farm/errors.ts";
import { type EpochMs, epochMs, type MachineId, type SessionId } from "../../farm/ids.ts";
import type { LsOptions, SnapshotBody, Unpacked } from "../../machines/machine-session.ts";
import { formatLsTime } from "../../wire/buildlet-api/ls-line.ts";
import { tarEnd, tarHeader, tarPadding } from "../../wire/tar/tar-writer.ts";
import type { BuildClient, BuildMachine, Command, CommandEnd } from "../machine.ts";
import type { FakeProcess } from "./fake-process.ts";

export interface Script {
  readonly output?: Iterable<Buffer | string>;
  readonly state?: string;
  readonly ends?: "well" | "hang" | "die" | "garbage" | "carrier";
  /** Called when the command starts; the command goes on when it resolves. */
  readonly started?: () => void | Promise<void>;
}

export interface FakeMachineOptions {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly name: string;
  readonly agent?: "barnraiser" | "original";
  /** What a command does; missing, or an empty script: it prints nothing and ends with "ok". */
  readonly script?: (command: Command) => Script;
  /** It hangs up in the middle of this call. */
  readonly dieIn?: "removeall" | "writetgz" | "write";
  /** It answers this call with garbage. */
  readonly garbageIn?: "removeall" | "writetgz" | "write";
  /** It takes what this call brings, and never answers. */
  readonly hangIn?: "removeall" | "writetgz";
  /** What it sends when it is asked for a snapshot; missing: a small body. */
  readonly snapshot?: (exclude: readonly string[], signal: AbortSignal | undefined) => SnapshotBody;
  /** What it lists; undefined: the files that are there. */
  readonly ls?: (dir: string) => Promise<string[]> | undefined;
  /** What it packs; undefined: those of the named files that are there. */
  readonly readFiles?: (names: readonly string[]) => Promise<Readable> | undefined;
  /** The agent process whose commands outlive connections; `script` is not asked then. */
  readonly process?: FakeProcess;
  /** The time that its clock shows: all its files were changed then. */
  readonly now?: EpochMs;
  /** Files that are there when it connects, by path. */
  readonly leaves?: Readonly<Record<string, Buffer>>;
  /** How many links of a tarball it says that it did not make. */
  readonly skippedLinks?: number;
}

export class FakeMachine implements BuildMachine {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly name: string;
  readonly agent: "barnraiser" | "original";
  readonly resumes: boolean;
  readonly client: BuildClient;
  /** What was asked of the machine, in order. */
  readonly calls: string[] = [];
  readonly commands: Command[] = [];
  /** Folder -> the last archive that was written there, as far as it came. */
  readonly archives = new Map<string, Buffer>();
  /** Path -> content: what was written to it, and what scripts leave behind. Removing the work folder empties it. */
  readonly files: Map<string, Buffer>;
  /** How many lines all listings had together. */
  listed = 0;
  /** How many bytes of tarballs it has received. */
  received = 0;
  readonly #gone = new AbortController();
  readonly #options: FakeMachineOptions;

  constructor(options: FakeMachineOptions) {
    this.#options = options;
    this.id = options.id;
    this.machineId = options.machineId;
    this.name = options.name;
    this.agent = options.agent ?? "barnraiser";
    this.resumes = options.process !== undefined;
    this.files = new Map(Object.entries(options.leaves ?? {}));
    this.client = {
      workDir: async () => "/build",
      writeFile: async (path, _mode, body: Uint8Array) => {
        this.calls.push(`write ${path}`);
        this.#trouble("write");
        this.files.set(path, Buffer.from(body));
      },
      ls: async (dir, listing) => (await options.ls?.(dir)) ?? this.#ls(dir, listing),
      readTgz: async (dir) => this.#readTgz(dir, this.#below(dir)),
      readFiles: async (dir, names) => {
        const below = this.#below(dir).filter(([name]) => names.includes(name));
        return options.readFiles?.(names) ?? this.#readTgz(dir, below);
      },
      removeAll: (paths, signal) => this.#removeAll(paths, signal),
      cleanUp: async (signal) => {
        await this.#removeAll(["."], signal);
        options.process?.clean();
      },
      writeTgz: (dir, body, signal) => this.#writeTgz(dir, body, signal),
      writeTgzFromUrl: async (dir, url) => void this.calls.push(`writetgz ${dir} ${url}`),
      exec: (command: Command, onOutput, signal) => this.#exec(command, onOutput, signal),
      readSnapshot: async (_, exclude, signal) =>
        options.snapshot?.(exclude, signal) ?? { body: Readable.from([Buffer.from("the made tree")]), excluded: true },
      endExecution: async (id) => {
        this.calls.push(`end ${id}`);
        options.process?.end(id);
      },
    };
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  hangUp(why = "hung up"): void {
    this.#gone.abort(new FarmError("machine-gone", why));
  }

  async #removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void> {
    this.calls.push(`removeall ${paths.join(" ")}`);
    for (const path of paths) {
      if (path === ".") this.files.clear();
      else this.files.delete(path);
    }
    this.#trouble("removeall");
    if (this.#options.hangIn === "removeall") await aborted(signal);
    signal?.throwIfAborted();
  }

  #ls(
    dir: string,
    { recursive, depth = recursive ? Number.POSITIVE_INFINITY : 1, skipNames = [] }: LsOptions,
  ): string[] {
    const modified = formatLsTime(this.#options.now ?? epochMs(0));
    const listed = this.#below(dir).filter(([name]) => {
      const parts = name.split("/");
      const folders = this.agent === "original" ? parts.slice(0, 1) : parts.slice(0, -1);
      return parts.length <= depth && !folders.some((folder) => skipNames.includes(folder));
    });
    this.listed += listed.length;
    return listed.map(([name, body]) => `-rw-r--r--\t${name}\t${body.length}\t${modified}`);
  }

  #readTgz(dir: string, files: readonly [string, Buffer][]): Readable {
    this.calls.push(`tgz ${dir} ${files.length}`);
    const parts: Buffer[] = [];
    for (const [name, body] of files) {
      parts.push(
        tarHeader({
          name,
          type: "file",
          mode: 0o644,
          size: body.length,
          mtime: Math.floor((this.#options.now ?? 0) / 1000),
        }),
        body,
        tarPadding(body.length),
      );
    }
    return Readable.from([gzipSync(Buffer.concat([...parts, tarEnd()]))]);
  }

  /** The files below `dir`, by their names relative to it. */
  #below(dir: string): [string, Buffer][] {
    return [...this.files].flatMap(([path, body]): [string, Buffer][] =>
      path.startsWith(`${dir}/`) ? [[path.slice(dir.length + 1), body]] : [],
    );
  }

  async #writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked> {
    this.calls.push(`writetgz ${dir}`);
    const parts: Buffer[] = [];
    try {
      for await (const chunk of body) {
        this.received += (chunk as Buffer).length;
        parts.push(chunk as Buffer);
        this.#trouble("writetgz");
        signal?.throwIfAborted();
      }
    } finally {
      this.archives.set(dir, Buffer.concat(parts));
    }
    if (this.#options.hangIn === "writetgz") await aborted(signal);
    return { skippedLinks: this.#options.skippedLinks };
  }

  async #exec(
    command: Command,
    onOutput: (chunk: Buffer) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<CommandEnd> {
    this.calls.push(`exec ${command.cmd}`);
    this.commands.push(command);
    const { process } = this.#options;
    if (process && command.execution)
      return await process.attend(command, command.execution, onOutput, this.#cut(signal));
    const script = this.#options.script?.(command) ?? {};
    await script.started?.();
    for (const chunk of script.output ?? []) {
      signal?.throwIfAborted();
      await onOutput(Buffer.from(chunk));
    }
    signal?.throwIfAborted();
    if (script.ends === "die") this.hangUp("hung up in the middle of a command");
    if (script.ends === "garbage") throw new FarmError("machine-broken", "the answer has no Process-State");
    if (script.ends === "carrier") throw new FarmError("carrier-gone", "coordinator P1 ended");
    if (script.ends === "die" || script.ends === "hang") await aborted(signal);
    const state = script.state ?? "ok";
    return { state, ok: state === "ok" };
  }

  #cut(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.gone]) : this.gone;
  }

  #trouble(call: "removeall" | "writetgz" | "write"): void {
    if (this.#options.dieIn === call) {
      this.hangUp(`hung up in the middle of ${call}`);
      throw new FarmError("machine-gone", "hung up");
    }
    if (this.#options.garbageIn === call) throw new FarmError("machine-broken", `${call} answered 500`);
  }
}

/** Rejects when `signal` aborts, and not before. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true }));
}
