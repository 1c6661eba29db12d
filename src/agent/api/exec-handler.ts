/**
 * POST /exec: runs a command and streams what it prints. The trailer Process-State says how the command ended.
 *
 * The order is part of the contract. A bad request is refused before the head goes out. The head goes out before the
 * command starts, since the client waits for it 20 s only. Whatever happens after that is 200.
 */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { messageOf } from "../../farm/errors.ts";
import { parseBool } from "../../farm/flags.ts";
import { PROCESS_STATE } from "../../wire/buildlet-api/buildlet-api.ts";
import { decodeExecForm, type ExecForm } from "../../wire/buildlet-api/exec-form.ts";
import {
  AGE_HEADER,
  ALONE_HEADER,
  EXECUTION_HEADER,
  type ExecutionRef,
  FROM_HEADER,
  LENGTH_HEADER,
  readExecution,
} from "../../wire/buildlet-api/execution.ts";
import { Commands } from "../exec/commands.ts";
import { execEnv, gorootBootstrap } from "../exec/exec-env.ts";
import { Executions } from "../exec/executions.ts";
import { type Resolved, resolveExec } from "../exec/resolve.ts";
import { ensureWorkDir } from "../work-dir.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError } from "./api-error.ts";
import { readForm } from "./request.ts";

export class ExecHandler implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly commands: Commands;
  readonly executions: Executions;
  #bootstrap: Promise<string | undefined> | undefined;

  constructor(deps: ApiDeps) {
    this.#deps = deps;
    this.commands = new Commands(deps.clock, deps.platform, deps.workDir, deps.ownUid);
    this.executions = new Executions(deps.clock);
  }

  /** Serves one request. `lease` aborts when its lease ends; a command that has not started by then never does. */
  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    query: URLSearchParams,
    lease: AbortSignal,
  ): Promise<void> {
    const { workDir, platform } = this.#deps;
    const windows = platform === "win32";
    if (request.httpVersionMajor < 1 || (request.httpVersionMajor === 1 && request.httpVersionMinor < 1)) {
      throw new ApiError(400, "Cannot run: want HTTP/1.1 or newer, for the trailer");
    }
    ensureWorkDir(workDir);
    response.setHeader("Trailer", PROCESS_STATE);
    const execution = executionOf(request);
    const form = decodeExecForm(await readForm(request, query));
    if (execution && this.#attach(execution, response)) return;
    const resolved = resolveExec(form, { workDir, path: process.env.PATH ?? "", windows });
    if (!execution) response.flushHeaders();
    const env = await this.#environment(form, resolved.dir);
    const command = { ...resolved, args: form.args, env };
    const first = form.debug ? debugLine(form, resolved, env) : "";
    lease.throwIfAborted();
    if (response.destroyed) return; // a client that still wants it asks again
    if (execution) {
      if (this.#attach(execution, response)) return; // the same request came twice
      this.executions.start(execution.id, (sink, signal) => {
        if (first !== "") sink.write(Buffer.from(first));
        return this.commands.run(command, sink, signal);
      });
      this.#attach(execution, response);
      return;
    }
    if (first !== "") response.write(first);
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("The client went away")));
    const sink = {
      write: (chunk: Buffer) => response.destroyed || response.write(chunk),
      drained: async () => void (await once(response, "drain", { signal: gone.signal }).catch(() => {})),
    };
    const state = await this.commands.run(command, sink, gone.signal);
    if (response.destroyed) return;
    response.addTrailers({ [PROCESS_STATE]: state });
    response.end();
  }

  /** Between two sessions: where no client can come back for a command, kills what commands left running. */
  async endSession(): Promise<void> {
    if (!this.executions.any) await this.commands.killLeftovers().catch(() => {}); // the next lease begins with it
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.executions.clear();
    await this.commands[Symbol.asyncDispose]();
  }

  /** Sends the execution's output to `response`. False: there is none of this name yet, and it must be started. */
  #attach({ id, from, aloneFor }: ExecutionRef, response: ServerResponse): boolean {
    const known = this.executions.find(id);
    if (known === undefined) {
      if (from === 0) return false;
      throw new ApiError(409, `Cannot go on with ${id} from byte ${from}: there is no such execution here`);
    }
    if (known === "over" || !known.has(from)) {
      const why = known === "over" ? "it was given up" : `what it printed from byte ${from} on is not kept any more`;
      throw new ApiError(410, `Cannot go on with ${id}: ${why}`);
    }
    response.setHeader(AGE_HEADER, known.age);
    response.setHeader(LENGTH_HEADER, known.length);
    response.flushHeaders();
    known.attach(response, from, aloneFor);
    return true;
  }

  async #environment(form: ExecForm, dir: string): Promise<{ [name: string]: string }> {
    const { workDir, platform } = this.#deps;
    this.#bootstrap ??= gorootBootstrap(workDir);
    const env = execEnv({
      own: { ...process.env, WORKDIR: workDir },
      workDir,
      gorootBootstrap: await this.#bootstrap,
      env: form.env,
      path: form.path,
      dir,
      windows: platform === "win32",
    });
    if (form.env.some((pair) => pair.startsWith("GO_DISABLE_OUTBOUND_NETWORK=") && parseBool(pair.slice(28)))) {
      await this.#deps.disableOutboundNetwork();
    }
    return env;
  }
}

function executionOf(request: IncomingMessage): ExecutionRef | undefined {
  const value = (name: string): string | undefined => {
    const given = request.headers[name.toLowerCase()];
    return Array.isArray(given) ? given.join(", ") : given;
  };
  try {
    return readExecution(value(EXECUTION_HEADER), value(FROM_HEADER), value(ALONE_HEADER));
  } catch (error) {
    throw new ApiError(400, messageOf(error));
  }
}

function debugLine(form: ExecForm, { program, dir }: Resolved, env: { readonly [name: string]: string }): string {
  const list = (items: readonly string[]) => `[${items.map((item) => JSON.stringify(item)).join(" ")}]`;
  const pairs = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return `:: Running ${program} with args ${list([program, ...form.args])} and env ${list(pairs)} in dir ${dir}\n\n`;
}
