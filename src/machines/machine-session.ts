/**
 * What the rest of the farm sees of a connected machine: a session, and the calls that its buildlet answers.
 *
 * Every call rejects with a FarmError:
 *
 *   machine-gone     the machine hung up, cut the call off or stopped answering; another machine may do
 *   machine-broken   the machine answered what the protocol does not allow, or refused what it should do
 *   bad-request      the machine refused the request as such
 *   timed-out        a limit of ours ran out
 *   any other        the reason of the caller's signal
 *
 * A call that is given up takes its connection down with it. That stops a command which runs at the other end, unless
 * it is an execution: only `endExecution` stops those.
 */
import type { Duplex, Readable } from "node:stream";
import type { MachineId, Ms, SessionId } from "../farm/ids.ts";

export interface ExecRequest {
  /** The program: absolute, relative to the work dir (with a slash), or a bare name. */
  readonly cmd: string;
  readonly args: readonly string[];
  /** The folder, absolute or below the work dir. By default the program's folder, or the work dir with `system`. */
  readonly dir?: string;
  /** The pairs `K=V`; later ones win. */
  readonly env: readonly string[];
  /** The elements of PATH, with `$PATH`, `$WORKDIR` and `$EMPTY`. An empty list leaves PATH alone. */
  readonly path: readonly string[];
  /** Whether the command is not looked for in the work dir. */
  readonly system?: boolean;
  /** Whether the output begins with a line that shows what is run. */
  readonly debug?: boolean;
  /** Makes the command outlive its connection. Only for a machine that resumes. */
  readonly execution?: Execution;
}

/** What makes a command outlive its connection (wire/buildlet-api/execution.ts). */
export interface Execution {
  /** A machine that does not know it starts the command. One that knows it sends the rest of the output and the end. */
  readonly id: string;
  /** How many bytes of the output the caller has: the rest begins there. A number beyond the output asks for none. */
  readonly from: number;
  /** Called before any output: how long the command has been running, or ran, and how many bytes it has printed. */
  readonly began?: (age: Ms, length: number) => void;
}

export interface ExecResult {
  /** The trailer Process-State: `ok`, `exit status 2`, `signal: killed`, or why the command could not start. */
  readonly state: string;
  readonly ok: boolean;
}

export interface Unpacked {
  /** How many symbolic links our buildlet did not make. Undefined from the original, which makes none. */
  readonly skippedLinks: number | undefined;
}

export interface SnapshotBody {
  /** The archive. It must be read or destroyed. */
  readonly body: Readable;
  /** Whether the machine left out what `exclude` names; otherwise it has packed everything. */
  readonly excluded: boolean;
}

export interface LsOptions {
  readonly recursive?: boolean;
  /** How many levels of a recursive listing; the original lists them all. */
  readonly depth?: number;
  /** Whether to list the SHA-1 of each regular file, too. */
  readonly digest?: boolean;
  /** Directories, relative to the listed one, that are neither listed nor entered. */
  readonly skip?: readonly string[];
  /** Names of directories that are left out at any depth; by the original only in the listed directory itself. */
  readonly skipNames?: readonly string[];
  /** Whether our own agent ends each line in NUL; for `readLs`. */
  readonly nul?: boolean;
}

export interface BuildletClient {
  /** The buildlet's protocol version. */
  status(signal?: AbortSignal): Promise<{ readonly version: number }>;
  /** The work folder, absolute, in the machine's own spelling. */
  workDir(signal?: AbortSignal): Promise<string>;
  /** Deletes files and folders. Commands that use them go on. */
  removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void>;
  /** Deletes the work dir; our agent also ends all that runs on the machine. */
  cleanUp(signal?: AbortSignal): Promise<void>;
  /** Unpacks a tar.gz below `dir`; "" is the work dir. `body` is destroyed when the call fails. */
  writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked>;
  /** Unpacks the archive at `url`, which the machine itself fetches. */
  writeTgzFromUrl(dir: string, url: string, signal?: AbortSignal): Promise<void>;
  writeFile(path: string, mode: number, body: Uint8Array | Readable, signal?: AbortSignal): Promise<void>;
  /**
   * A tar.gz of `dir` in several gzip members; node:zlib reads all. The stream errors when the machine breaks off.
   * It must be read or destroyed.
   */
  readTgz(dir: string, signal?: AbortSignal): Promise<Readable>;
  /** A tar.gz as from `readTgz`, of those of these files of `dir` that exist. The original sends the whole folder. */
  readFiles(dir: string, names: readonly string[], signal?: AbortSignal): Promise<Readable>;
  /** A tar.gz as from `readTgz`. Packing does not hold up what runs in `dir`. `exclude` are lines of a .gitignore. */
  readSnapshot(dir: string, exclude: readonly string[], signal?: AbortSignal): Promise<SnapshotBody>;
  /** A line per entry, without LF (wire/buildlet-api/ls-line.ts). Throws `bad-request` if `dir` cannot be listed. */
  ls(dir: string, options: LsOptions, signal?: AbortSignal): Promise<string[]>;
  /** The same listing as the machine sends it, in chunks cut anywhere. Must be read or destroyed. */
  readLs(dir: string, options: LsOptions, signal?: AbortSignal): Promise<Readable>;
  /** Runs a command. Output comes in order; the next piece waits until `onOutput` has resolved. */
  exec(
    request: ExecRequest,
    onOutput: (chunk: Buffer) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<ExecResult>;
  /** Kills an execution with all that it started, and forgets it. Only for a machine that resumes. */
  endExecution(id: string, signal?: AbortSignal): Promise<void>;
  /** A connection for one shell (wire/buildlet-api/shell-line.ts); the caller must end it. Only for our own agent. */
  openShell(signal?: AbortSignal): Promise<Duplex>;
  /** A connection to the machine's ssh server, which accepts this key; the caller must end it. */
  connectSsh(user: string, authorizedKey: string, signal?: AbortSignal): Promise<Duplex>;
  /** Asks the machine to end its session. Never rejects: the answer does not matter. */
  halt(): Promise<void>;
}

export interface MachineSession {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly hostType: string;
  readonly name: string;
  /** A `barnraiser` agent serves build after build; an `original` one is halted after one. */
  readonly agent: "barnraiser" | "original";
  /** Whether its commands can outlive their connections, and it comes back when it loses its session. */
  readonly resumes: boolean;
  readonly client: BuildletClient;
  /** Aborts once the machine is gone; the reason is a FarmError `machine-gone` in words for its owner. */
  readonly gone: AbortSignal;
}

/** One connected machine, for lists. */
export interface SessionView {
  readonly id: SessionId;
  /** Undefined until the database has the machine. */
  readonly machineId: MachineId | undefined;
  readonly hostType: string;
  readonly name: string;
  readonly agent: "barnraiser" | "original";
  readonly version: number;
  /** The machine's address, as `ip:port`. */
  readonly address: string;
  readonly mode: "joining" | "idle" | "busy" | "leaving";
  readonly openedAt: number;
  /** When the session came into its mode. */
  readonly since: number;
}
