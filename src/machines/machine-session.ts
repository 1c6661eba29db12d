/**
 * What the rest of the farm sees of a connected machine: a session, and the calls that its buildlet answers.
 *
 * Every call rejects with a FarmError: `machine-gone` when the machine hung up, cut a call off or stopped answering (another may do),
 * `machine-broken` when it answered what the protocol does not allow or refused what it should do, `bad-request` when it
 * refused the request as such, `timed-out`, or the reason of the caller's signal. A call that is given up takes its
 * connection down with it, which stops a running command at the other end unless it is an execution (`endExecution` stops that).
 */
import type { Duplex, Readable } from "node:stream";
import type { MachineId, Ms, SessionId } from "../farm/ids.ts";

export interface ExecRequest {
  /** Absolute, relative to the work dir (with a slash), or a bare name. */
  readonly cmd: string;
  readonly args: readonly string[];
  /** Absolute or below the work dir; missing: the directory of the command, the work dir when `system`. */
  readonly dir?: string;
  /** `K=V`, later wins. */
  readonly env: readonly string[];
  /** PATH elements, with `$PATH`, `$WORKDIR` and `$EMPTY`; none leaves PATH alone. */
  readonly path: readonly string[];
  readonly system?: boolean;
  /** The output begins with a line that tells what is run. */
  readonly debug?: boolean;
  /** What makes the command outlive its connection, on a machine that resumes (wire/buildlet-api). */
  readonly execution?: {
    readonly id: string;
    /** Output before this byte is not sent. */
    readonly from: number;
    /** Told, before any output, how long the command has been running. */
    readonly began?: (age: Ms, length: number) => void;
  };
}

export interface ExecResult {
  /** The trailer Process-State: `ok`, `exit status 2`, `signal: killed`, or why it could not be started. */
  readonly state: string;
  readonly ok: boolean;
}

export interface Unpacked {
  /** Symbolic links that our buildlet did not make. Undefined from the original, which makes none and does not count them. */
  readonly skippedLinks: number | undefined;
}

export interface SnapshotBody {
  /** Must be read or destroyed. */
  readonly body: Readable;
  /** False: the machine has packed everything. */
  readonly excluded: boolean;
}

export interface LsOptions {
  readonly recursive?: boolean;
  /** How many levels of a recursive listing; the original lists them all. */
  readonly depth?: number;
  /** Also the SHA-1 of each regular file. */
  readonly digest?: boolean;
  /** Directories, relative to the listed one, that are neither listed nor entered. */
  readonly skip?: readonly string[];
  /** What directories are called that are not either, wherever they are; the original leaves out only those in the listed one itself. */
  readonly skipNames?: readonly string[];
  /** Lines end in NUL, from our own agent; for `readLs`. */
  readonly nul?: boolean;
}

export interface BuildletClient {
  /** The buildlet's protocol version. */
  status(signal?: AbortSignal): Promise<{ readonly version: number }>;
  workDir(signal?: AbortSignal): Promise<string>;
  /** Deletes files, and nothing else. */
  removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void>;
  /** Empties the machine for whoever has it next: our agent ends all that runs there, and the work dir is deleted. */
  cleanUp(signal?: AbortSignal): Promise<void>;
  /** Unpacks a tar.gz below `dir`; "" is the work dir. `body` is destroyed when the call fails. */
  writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked>;
  /** The machine itself fetches the archive. */
  writeTgzFromUrl(dir: string, url: string, signal?: AbortSignal): Promise<void>;
  writeFile(path: string, mode: number, body: Uint8Array | Readable, signal?: AbortSignal): Promise<void>;
  /** A tar.gz of `dir` in several gzip members (node:zlib reads all). Errors when the machine breaks off; must be read or destroyed. */
  readTgz(dir: string, signal?: AbortSignal): Promise<Readable>;
  /** As `readTgz`, of these files of `dir` and nothing else, without those that are gone. From the original it is the whole folder. */
  readFiles(dir: string, names: readonly string[], signal?: AbortSignal): Promise<Readable>;
  /**
   * A tar.gz as from `readTgz`, of a folder in which something runs that must not wait for it. `exclude` are lines of a .gitignore.
   */
  readSnapshot(dir: string, exclude: readonly string[], signal?: AbortSignal): Promise<SnapshotBody>;
  /** Lines as in wire/buildlet-api/ls-line.ts, without their LF. A folder that cannot be listed is `bad-request`. */
  ls(dir: string, options: LsOptions, signal?: AbortSignal): Promise<string[]>;
  /** The same as it comes, cut anywhere. Must be read or destroyed. */
  readLs(dir: string, options: LsOptions, signal?: AbortSignal): Promise<Readable>;
  /** Output comes in order; the next piece waits until `onOutput` has resolved. */
  exec(
    request: ExecRequest,
    onOutput: (chunk: Buffer) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<ExecResult>;
  /** Kills an execution with all that it started, if it runs, and forgets it. Only for a machine that resumes. */
  endExecution(id: string, signal?: AbortSignal): Promise<void>;
  /** A connection for one shell (wire/buildlet-api/shell-line.ts); the caller's to end. Only our own agent has them. */
  openShell(signal?: AbortSignal): Promise<Duplex>;
  /** A connection to the machine's ssh server, which lets in whoever has this key; the caller's to end. */
  connectSsh(user: string, authorizedKey: string, signal?: AbortSignal): Promise<Duplex>;
  /** Ends the session at the machine's side. Never rejects: the answer, if any, does not matter. */
  halt(): Promise<void>;
}

export interface MachineSession {
  readonly id: SessionId;
  readonly machineId: MachineId;
  readonly hostType: string;
  readonly name: string;
  /** `barnraiser` serves build after build; `original` is halted after one. */
  readonly agent: "barnraiser" | "original";
  /** Its commands can outlive their connections, and it comes back when it loses its own. */
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
  /** `ip:port` */
  readonly address: string;
  readonly mode: "joining" | "idle" | "busy" | "leaving";
  readonly openedAt: number;
  /** Since when it is in this mode. */
  readonly since: number;
}
