/**
 * protos.GomoteService: the methods that the original `gomote` command calls (wire/gomote/gomote.proto), over instances
 * (../instances.ts).
 *
 *   instance-calls.ts   instances, and the commands that run on them
 *   file-calls.ts       files on their way to and from an instance
 *
 * Every method checks in this order: who calls (calls.ts), whether the arguments can mean something, whether the
 * instance exists, whether it is the caller's. Only then does it renew the instance and do its work. The instance is in
 * use for as long as a method works with its machine. The audit records what the caller did; a command is also recorded
 * as one of the instance's.
 */
import type { ServiceImpl } from "@connectrpc/connect";
import type { GomoteService } from "../../wire/gomote/gen/gomote_pb.ts";
import { type FileCallsDeps, fileCalls } from "./file-calls.ts";
import { type InstanceCallsDeps, instanceCalls } from "./instance-calls.ts";

export interface GomoteServiceDeps extends InstanceCallsDeps, FileCallsDeps {}

export function gomoteService(deps: GomoteServiceDeps): ServiceImpl<typeof GomoteService> {
  return { ...instanceCalls(deps), ...fileCalls(deps) };
}
