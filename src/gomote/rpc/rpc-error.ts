/** Errors as a client of gRPC is told them: the codes of farm/errors.ts, and a sentence. What is none of ours is logged whole and told as internal. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, type Code as GrpcCode } from "@connectrpc/connect";
import type { Log } from "../../farm/deps.ts";
import { CODES, type Code, FarmError } from "../../farm/errors.ts";
import { commandExit } from "../../wire/gomote/command-exit.ts";
import { CommandExitSchema } from "../../wire/gomote/gen/barnraiser_pb.ts";

const ABORTED = 10;
/** As a shell says of what SIGKILL ended. */
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

/** A command ran, or could not be started, and did not end well. */
export function commandFailed(processState: string): ConnectError {
  return aborted(commandExit(processState));
}

/** Somebody ended a command while it ran; `reason` says who. */
export function commandKilled(reason: string): ConnectError {
  return aborted({ exitStatus: KILLED, processState: reason });
}

/** Of these a caller hears what became of the work; the other codes are told as they are. */
const NOT_DONE: ReadonlySet<Code> = new Set(["bad-request", "not-found", "gone", "timed-out", "machine-broken"]);

/** What was to be written or read could not be, and the machine is well: the original command takes it for "not done". */
export async function orAborted<T>(work: Promise<T>): Promise<T> {
  return await orElse(work, (error) => {
    throw new ConnectError(error.message, ABORTED as GrpcCode, undefined, undefined, error);
  });
}

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
