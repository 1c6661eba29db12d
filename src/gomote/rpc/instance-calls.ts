/** Methods of protos.GomoteService about instances, and about the commands that run on them (gomote-service.ts). */
import type { ServiceImpl } from "@connectrpc/connect";
import type { FarmConfig } from "../../config/effective.ts";
import type { Instance } from "../../store/gomote.ts";
import { CreateInstanceResponse_Status, type GomoteService } from "../../wire/gomote/gen/gomote_pb.ts";
import type { Creations } from "../creations.ts";
import { typesFor } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import { callerOf } from "./calls.ts";
import { type Commands, execForm } from "./commands.ts";
import type { SshKeys } from "./faces.ts";
import { type Records, unixSeconds, want } from "./requests.ts";

type InstanceCalls = Pick<
  ServiceImpl<typeof GomoteService>,
  | "authenticate"
  | "addBootstrap"
  | "createInstance"
  | "destroyInstance"
  | "executeCommand"
  | "instanceAlive"
  | "listInstances"
  | "listSwarmingBuilders"
  | "signSSHKey"
>;

export interface InstanceCallsDeps {
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  readonly creations: Creations;
  readonly commands: Commands;
  readonly records: Records;
  readonly sshKeys: SshKeys;
}

export function instanceCalls(deps: InstanceCallsDeps): InstanceCalls {
  const { config, instances, creations, commands, records, sshKeys } = deps;
  return {
    async authenticate() {
      return {};
    },

    async addBootstrap({ gomoteId }, context) {
      await instances.use(callerOf(context), gomoteId);
      return { bootstrapGoUrl: "" }; // machines bring what they need to bootstrap
    },

    async *createInstance({ builderType }, context) {
      for await (const news of creations.create(callerOf(context), builderType, context.signal)) {
        if (news.kind === "waiting")
          yield { status: CreateInstanceResponse_Status.WAITING, waitersAhead: BigInt(news.ahead) };
        else yield { status: CreateInstanceResponse_Status.COMPLETE, instance: described(news.instance) };
      }
    },

    async destroyInstance({ gomoteId }, context) {
      want(gomoteId !== "", "Cannot destroy an instance without its gomote_id.");
      await instances.destroy(callerOf(context), gomoteId);
      return {};
    },

    async *executeCommand(request, context) {
      const person = callerOf(context);
      const form = execForm(request);
      const held = await instances.held(person, request.gomoteId);
      using _ = instances.keep(held.instance);
      for await (const output of commands.run(held, person, form, context)) yield { output };
    },

    async instanceAlive({ gomoteId }, context) {
      want(gomoteId !== "", "Cannot look for an instance without its gomote_id.");
      await instances.use(callerOf(context), gomoteId);
      return {};
    },

    async listInstances(_, context) {
      const mine = await instances.list(callerOf(context));
      return { instances: mine.filter(({ upAt }) => upAt !== null).map(described) };
    },

    async listSwarmingBuilders(_, context) {
      return { builders: typesFor(config(), callerOf(context)).map(({ name }) => name) };
    },

    async signSSHKey({ gomoteId, publicSshKey }, context) {
      const person = callerOf(context);
      const instance = await instances.use(person, gomoteId);
      const signedPublicSshKey = await sshKeys.sign(person, instance, publicSshKey);
      await records(person, "sign key", instance, "");
      return { signedPublicSshKey: new Uint8Array(signedPublicSshKey) };
    },
  };
}

function described(instance: Instance) {
  return {
    gomoteId: instance.name,
    builderType: instance.builderType,
    hostType: instance.hostType,
    expires: unixSeconds(instance.expiresAt),
    workingDir: instance.workingDir ?? "",
  };
}
