/**
 * barnraiser.Gomote: what our own command needs beyond the original's service (wire/gomote/barnraiser.proto).
 *
 *   execution-calls.ts   commands of the caller's instances
 *   folder-calls.ts      whole folders
 *   build-calls.ts       repeating a build
 *   here                 what an instance is, and which there could be
 *
 * Its methods check in the same order as those of gomote-service.ts.
 */
import type { ServiceImpl } from "@connectrpc/connect";
import type { FarmConfig } from "../../config/effective.ts";
import { mayNotBorrow } from "../../farm/lending.ts";
import { connected } from "../../store/pages-pools.ts";
import type { Sql } from "../../store/sql.ts";
import type { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import { allTypes } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import { type BuildCallsDeps, buildCalls } from "./build-calls.ts";
import { callerOf } from "./calls.ts";
import { type ExecutionCallsDeps, executionCalls } from "./execution-calls.ts";
import { type FolderCallsDeps, folderCalls } from "./folder-calls.ts";
import { unixSeconds } from "./requests.ts";

type TypeCalls = Pick<ServiceImpl<typeof Gomote>, "describeInstance" | "listTypes">;

interface TypeCallsDeps {
  readonly sql: Sql;
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  /** Where `ssh` is to connect; undefined: nowhere. */
  readonly ssh: { readonly address: string; readonly hostKeys: readonly string[] } | undefined;
}

export interface OwnServiceDeps extends ExecutionCallsDeps, FolderCallsDeps, BuildCallsDeps, TypeCallsDeps {}

export function ownService(deps: OwnServiceDeps): ServiceImpl<typeof Gomote> {
  return { ...executionCalls(deps), ...folderCalls(deps), ...buildCalls(deps), ...typeCalls(deps) };
}

function typeCalls({ sql, config, instances, ssh }: TypeCallsDeps): TypeCalls {
  return {
    async describeInstance({ gomoteId }, context) {
      const instance = await instances.use(callerOf(context), gomoteId);
      const host = config().hosts.find(({ hostType }) => hostType === instance.hostType);
      const [os = "", arch = ""] = (host?.hostArch ?? "").split("-");
      return {
        builderType: instance.builderType,
        hostType: instance.hostType,
        machine: instance.machine ?? "",
        workingDir: instance.workingDir ?? "",
        goos: os,
        goarch: arch,
        created: unixSeconds(instance.createdAt),
        expires: unixSeconds(instance.expiresAt),
        limit: unixSeconds(instance.limitAt ?? 0),
        sshAddress: ssh?.address ?? "",
        sshHostKeys: [...(ssh?.hostKeys ?? [])],
      };
    },

    async listTypes(_, context) {
      const person = callerOf(context);
      const sessions = Map.groupBy(await connected(sql), ({ hostType }) => hostType);
      return {
        types: allTypes(config()).map(({ name, host }) => {
          const there = (sessions.get(host.hostType) ?? []).filter(({ drained, setAside }) => !drained && !setAside);
          return {
            builderType: name,
            hostType: host.hostType,
            refusal: mayNotBorrow(person, host) ?? "",
            machines: there.length,
            idle: there.filter(({ heldAt }) => heldAt === null).length,
          };
        }),
      };
    },
  };
}
