/**
 * How a command that failed is told of: status ABORTED, whose details hold a `barnraiser.CommandExit`.
 *
 * The original command takes ABORTED for "the command failed, carry on" and everything else for "the machine broke, stop all". Ours reads
 * the details as well, and ends with the command's own exit status. Statuses are a shell's: 127 for what could not be started, 128 + N for signal N.
 */
import { create } from "@bufbuild/protobuf";
import { exitCodeOf, signalOf } from "../buildlet-api/process-state.ts";
import { type CommandExit, CommandExitSchema } from "./gen/barnraiser_pb.ts";

/** What a shell says of a command that it could not start. */
const NOT_STARTED = 127;

/** The details for a command that ended as `processState` (../buildlet-api/process-state.ts) says, which is not `ok`. */
export function commandExit(processState: string): CommandExit {
  return create(CommandExitSchema, { exitStatus: exitStatusOf(processState), processState });
}

function exitStatusOf(processState: string): number {
  const code = exitCodeOf(processState);
  // Only a Windows program exits with a number that no shell can say.
  if (code !== undefined) return code <= 255 ? code : 1;
  const signal = signalOf(processState);
  return signal === undefined ? NOT_STARTED : 128 + signal;
}
