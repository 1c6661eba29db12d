/** What a build needs of a machine: the part of machines/ MachineSession that it uses, so that a test's machine is small. */
import type { Readable } from "node:stream";
import type { MachineId, Ms, SessionId } from "../farm/ids.ts";

export interface Command {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: readonly string[];
  readonly path: readonly string[];
  /** The output begins with a line that tells what is run. */
  readonly debug?: boolean;
  /** It is not looked for in the work dir. */
  readonly system?: boolean;
  /** Only for a machine that resumes. */
  readonly execution?: Execution;
}

/** What makes a command outlive its connection. */
export interface Execution {
  /** Unknown to the machine: the command starts. Known: its output from byte `from` on, and its end. */
  readonly id: string;
  /** Bytes of output that we have; more than there are means that the rest is not wanted, only the end. */
  readonly from: number;
  /** Told, before any output, how long the command has been running, or ran, and how many bytes it has printed by now. */
  readonly began?: (age: Ms, length: number) => void;
}

export interface CommandEnd {
  /** Process-State: "ok", "exit status 2", "signal: killed", or why it could not be started. */
  readonly state: string;
  readonly ok: boolean;
}

export interface Unpacked {
  /** Symbolic links of the tree that were not made; undefined when the machine does not say. */
  readonly skippedLinks: number | undefined;
}

export interface SnapshotBody {
  /** Must be read or destroyed. */
  readonly body: Readable;
  /** False: the machine has packed everything. */
  readonly excluded: boolean;
}

export interface Listing {
  readonly recursive: boolean;
  /** How many levels; the original lists them all. */
  readonly depth?: number;
  /** Folders that are called so are left out, wherever they are; by the original only those right in the listed one. */
  readonly skipNames?: readonly string[];
}

export interface BuildClient {
  writeFile(path: string, mode: number, body: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** A line per entry below `dir` (wire/buildlet-api/ls-line.ts). Throws `bad-request` when it cannot be listed, as when it is not there. */
  ls(dir: string, options: Listing, signal?: AbortSignal): Promise<string[]>;
  /** A tar.gz of `dir`; must be read or destroyed. */
  readTgz(dir: string, signal?: AbortSignal): Promise<Readable>;
  /** A tar.gz of these files of `dir` and nothing else, without those that are gone. Only for an agent of ours; must be read or destroyed. */
  readFiles(dir: string, names: readonly string[], signal?: AbortSignal): Promise<Readable>;
  /** Deletes files, and nothing else. */
  removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void>;
  /** Deletes all files, and ends all that runs on an agent of ours. */
  cleanUp(signal?: AbortSignal): Promise<void>;
  writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked>;
  /** The machine itself fetches the archive. */
  writeTgzFromUrl(dir: string, url: string, signal?: AbortSignal): Promise<void>;
  /** The work folder, absolute, in the machine's own spelling. */
  workDir(signal?: AbortSignal): Promise<string>;
  /** A tar.gz of a folder in which something runs that must not wait for it; `exclude` are lines of a .gitignore. */
  readSnapshot(dir: string, exclude: readonly string[], signal?: AbortSignal): Promise<SnapshotBody>;
  exec(command: Command, onOutput: (chunk: Buffer) => void | Promise<void>, signal?: AbortSignal): Promise<CommandEnd>;
  /** Kills the execution with all that it started, if it runs, and forgets it. Only for a machine that resumes. */
  endExecution(id: string, signal?: AbortSignal): Promise<void>;
}

export interface BuildMachine {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly name: string;
  readonly agent: "barnraiser" | "original";
  /** Its commands outlive their connections, and it comes back to us when it loses its own. */
  readonly resumes: boolean;
  readonly client: BuildClient;
  /** Aborts when the machine hung up or stopped answering; the reason says which. */
  readonly gone: AbortSignal;
}
