/** Errors as a client of gRPC is told them: the codes of farm/errors.ts, and a sentence. What is none of ours is logged whole and told as internal. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Code, ConnectError } from "@connectrpc/connect";
import type { Log } from "../../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../../farm/errors.ts";
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

/** What was to be written or read could not be, and the machine is well. */
export function notDone(reason: unknown): ConnectError {
  return new ConnectError(messageOf(reason), ABORTED as Code, undefined, undefined, reason);
}

function aborted(exit: MessageInitShape<typeof CommandExitSchema>): ConnectError {
  return new ConnectError(exit.processState ?? "", ABORTED as Code, undefined, [
    { desc: CommandExitSchema, value: create(CommandExitSchema, exit) },
  ]);
}

/** Numbers of gRPC's codes are those of Code. */
function failed(code: number, message: string): ConnectError {
  return new ConnectError(message, code as Code);
}
