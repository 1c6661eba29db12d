/**
 * Errors as a client of gRPC gets them: a code (farm/errors.ts) and a sentence. An error that is not a FarmError is
 * logged whole, and answered as internal.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, type Code as GrpcCode } from "@connectrpc/connect";
import type { Log } from "../../farm/deps.ts";
import { CODES, type Code, FarmError } from "../../farm/errors.ts";
import { commandExit } from "../../wire/gomote/command-exit.ts";
import { CommandExitSchema } from "../../wire/gomote/gen/barnraiser_pb.ts";

const ABORTED = 10;
/** The exit status that a shell gives to a program that SIGKILL ended. */
const KILLED = 137;

export function rpcError(reason: unknown, method: string, log: Log): ConnectError {
  if (reason instanceof ConnectError) return reason;
  if (reason instanceof FarmError && reason.code !== "internal") return failed(CODES[reason.code].grpc, reason.message);
  const error = reason instanceof Error ? reason.stack : String(reason);
  log.error({ method, error }, "A call failed");
  const told =
    reason instanceof FarmError ? reason.message : "Something went wrong here; the coordinator's log says more.";
  return failed(CODES.internal.grpc, told);
}

/** The error of a command that could not be started, or did not end well. */
export function commandFailed(processState: string): ConnectError {
  return aborted(commandExit(processState));
}

/** The error of a command that somebody ended while it ran; `reason` says who. */
export function commandKilled(reason: string): ConnectError {
  return aborted({ exitStatus: KILLED, processState: reason });
}

/** Codes of work that was not done, which `orAborted` and `orRefused` answer with a code of their own. */
const NOT_DONE: ReadonlySet<Code> = new Set(["bad-request", "not-found", "gone", "timed-out", "machine-broken"]);

/**
 * Answers ABORTED when something could not be written or read. The original command takes that for "not done", by a
 * machine that is well.
 */
export async function orAborted<T>(work: Promise<T>): Promise<T> {
  return await orElse(work, (error) => {
    throw new ConnectError(error.message, ABORTED as GrpcCode, undefined, undefined, error);
  });
}

/** Answers `conflict` when something could not be written. */
export async function orRefused<T>(work: Promise<T>): Promise<T> {
  return await orElse(work, (error) => {
    throw new FarmError("conflict", error.message, { cause: error });
  });
}

async function orElse<T>(work: Promise<T>, refuse: (error: FarmError) => never): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof FarmError && NOT_DONE.has(error.code)) refuse(error);
    throw error;
  }
}

function aborted(exit: MessageInitShape<typeof CommandExitSchema>): ConnectError {
  return new ConnectError(exit.processState ?? "", ABORTED as GrpcCode, undefined, [
    { desc: CommandExitSchema, value: create(CommandExitSchema, exit) },
  ]);
}

/** `code` is one of gRPC's own numbers. */
function failed(code: number, message: string): ConnectError {
  return new ConnectError(message, code as GrpcCode);
}
