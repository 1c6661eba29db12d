/**
 * protos.GomoteService: the methods that the original `gomote` command calls (wire/gomote/gomote.proto), over instances (../instances.ts).
 *
 * Every method checks in this order: who calls (calls.ts), whether the arguments can mean something, whether the instance exists, whether it
 * is the caller's; only then is it renewed and anything done. While a method works with a machine the instance is in use. What happened
 * is in the audit, and what was run among the commands of the instance.
 */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { FarmConfig } from "../../config/effective.ts";
import { FarmError } from "../../farm/errors.ts";
import type { Person } from "../../farm/person.ts";
import type { Instance } from "../../store/gomote.ts";
import { linesIn } from "../../wire/buildlet-api/ls-line.ts";
import {
  CreateInstanceResponse_Status,
  type GomoteService,
  type ListDirectoryRequest,
} from "../../wire/gomote/gen/gomote_pb.ts";
import { batchesOf } from "../../wire/gomote/gomote.ts";
import type { Creations } from "../creations.ts";
import type { HeldInstance } from "../holdings.ts";
import { typesFor } from "../instance-types.ts";
import type { Instances } from "../instances.ts";
import { listed, packed } from "../machine-files.ts";
import { webUrl } from "../transfers/guarded-fetch.ts";
import type { Transfers } from "../transfers/transfers.ts";
import { emptyWorkDir, isWorkDir } from "../work-dir.ts";
import { callerOf, originOf } from "./calls.ts";
import { type Commands, execForm } from "./commands.ts";
import type { SshKeys } from "./faces.ts";
import { type Records, want, wantBelow } from "./requests.ts";
import { orAborted, orRefused } from "./rpc-error.ts";

/** Of one answer, with as much for what is around it. */
const ANSWER_LIMIT = 4 * 1024 ** 2 - 1024;
const AROUND_ENTRY = 4;

export interface GomoteServiceDeps {
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  readonly creations: Creations;
  readonly commands: Commands;
  readonly records: Records;
  readonly transfers: Pick<Transfers, "upload" | "keep" | "open">;
  readonly sshKeys: SshKeys;
}

export function gomoteService(deps: GomoteServiceDeps): ServiceImpl<typeof GomoteService> {
  const { instances, creations, commands, records, transfers, sshKeys, config } = deps;

  /** Works with the machine of an instance, which is in use meanwhile; the signal ends with the call and with the instance. */
  async function withMachine<T>(
    gomoteId: string,
    context: HandlerContext,
    work: (held: HeldInstance, person: Person, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const person = callerOf(context);
    const held = await instances.held(person, gomoteId);
    using _ = instances.keep(held.instance);
    return await work(held, person, AbortSignal.any([context.signal, held.over]));
  }

  async function* entries(request: ListDirectoryRequest, context: HandlerContext): AsyncGenerator<string[]> {
    const { gomoteId, directory, recursive, digest, skipFiles } = request;
    want(gomoteId !== "", "Cannot list a directory without a gomote_id.");
    want(directory !== "", `Cannot list a directory without its name; "." is the work dir.`);
    const held = await instances.held(callerOf(context), gomoteId);
    using _ = instances.keep(held.instance);
    wantBelow(directory, held.instance);
    const skip = skipFiles.filter((path) => path !== "");
    const signal = AbortSignal.any([context.signal, held.over]);
    yield* linesIn(await orAborted(listed(held, directory, { recursive, digest, skip }, signal)));
  }

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

    async listDirectory(request, context) {
      const whole: string[] = [];
      let bytes = 0;
      for await (const lines of entries(request, context)) {
        for (const line of lines) bytes += Buffer.byteLength(line) + AROUND_ENTRY;
        if (bytes > ANSWER_LIMIT)
          throw new FarmError(
            "too-large",
            `Cannot list ${JSON.stringify(request.directory.slice(0, 200))} in one answer, which no client takes above 4 MiB: use ListDirectoryStreaming, or list less.`,
          );
        whole.push(...lines);
      }
      return { entries: whole };
    },

    async *listDirectoryStreaming(request, context) {
      for await (const lines of entries(request, context)) {
        for (const batch of batchesOf(lines)) yield { entries: batch };
      }
    },

    async listInstances(_, context) {
      const mine = await instances.list(callerOf(context));
      return { instances: mine.filter(({ upAt }) => upAt !== null).map(described) };
    },

    async listSwarmingBuilders(_, context) {
      return { builders: typesFor(config(), callerOf(context)).map(({ name }) => name) };
    },

    async readTGZToURL({ gomoteId, directory }, context) {
      const dir = directory || ".";
      const person = callerOf(context);
      const held = await instances.held(person, gomoteId);
      const { instance, over } = held;
      wantBelow(dir, instance);
      await records(person, "read", instance, dir);
      // The archive goes on arriving when the call has ended, and the instance is in use until it has come.
      const inUse = instances.keep(instance);
      const done = () => inUse[Symbol.dispose]();
      const left = new AbortController();
      const leave = () => left.abort(new FarmError("canceled", "Whoever asked for the archive left"));
      context.signal.addEventListener("abort", leave, { once: true });
      try {
        const body = await orAborted(packed(held, dir, AbortSignal.any([left.signal, over])));
        const name = `${instance.name}.tar.gz`;
        const { url, whole } = await orAborted(transfers.keep(person, originOf(context), name, body));
        whole.then(done, done);
        return { url };
      } catch (error) {
        done();
        throw error;
      } finally {
        context.signal.removeEventListener("abort", leave);
      }
    },

    async removeFiles({ gomoteId, paths }, context) {
      want(gomoteId !== "", "Cannot remove files without a gomote_id.");
      want(paths.length > 0, "Cannot remove files without their paths.");
      return await withMachine(gomoteId, context, async ({ machine, instance }, person, signal) => {
        for (const path of paths) wantBelow(path, instance);
        await records(person, "remove", instance, paths.join(" "));
        if (paths.some(isWorkDir)) await emptyWorkDir(machine, signal);
        else await machine.client.removeAll(paths, signal);
        return {};
      });
    },

    async signSSHKey({ gomoteId, publicSshKey }, context) {
      const person = callerOf(context);
      const instance = await instances.use(person, gomoteId);
      const signedPublicSshKey = await sshKeys.sign(person, instance, publicSshKey);
      await records(person, "sign key", instance, "");
      return { signedPublicSshKey: new Uint8Array(signedPublicSshKey) };
    },

    async uploadFile(_, context) {
      const { url, fields, objectName } = await transfers.upload(callerOf(context), originOf(context));
      return { url, fields: { ...fields }, objectName };
    },

    async writeFileFromURL({ gomoteId, url, filename, mode }, context) {
      return await withMachine(gomoteId, context, async ({ machine, instance }, person, signal) => {
        want(url !== "", "Cannot write a file without the URL of its bytes.");
        webUrl(url);
        wantBelow(filename, instance);
        want(mode <= 0o7777, `Cannot write a file with mode ${mode}: want permission bits.`);
        await records(person, "write", instance, filename);
        const body = await orAborted(transfers.open(person, url, signal));
        await orAborted(machine.client.writeFile(filename, mode || 0o644, body, signal));
        return {};
      });
    },

    async writeTGZFromURL({ gomoteId, url, directory }, context) {
      want(gomoteId !== "", "Cannot write an archive without a gomote_id.");
      want(url !== "", "Cannot write an archive without its URL.");
      webUrl(url);
      return await withMachine(gomoteId, context, async ({ machine, instance }, person, signal) => {
        const dir = directory || ".";
        wantBelow(dir, instance);
        await records(person, "write", instance, `${dir}/`);
        const body = await orRefused(transfers.open(person, url, signal));
        await orRefused(machine.client.writeTgz(dir === "." ? "" : dir, body, signal));
        return {};
      });
    },
  };
}

function described(instance: Instance) {
  return {
    gomoteId: instance.name,
    builderType: instance.builderType,
    hostType: instance.hostType,
    expires: BigInt(Math.floor(instance.expiresAt / 1000)),
    workingDir: instance.workingDir ?? "",
  };
}
