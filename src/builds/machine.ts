/** What a build needs of a machine: the part of machines/ MachineSession that it uses, so that a test's machine is small. */
import type { Readable } from "node:stream";
import type { MachineId, SessionId } from "../farm/ids.ts";

export interface Command {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: readonly string[];
  readonly path: readonly string[];
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

export interface BuildClient {
  removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void>;
  writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked>;
  exec(command: Command, onOutput: (chunk: Buffer) => void | Promise<void>, signal?: AbortSignal): Promise<CommandEnd>;
}

export interface BuildMachine {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly name: string;
  readonly agent: "barnraiser" | "original";
  readonly client: BuildClient;
  /** Aborts when the machine hung up or stopped answering; the reason says which. */
  readonly gone: AbortSignal;
}
