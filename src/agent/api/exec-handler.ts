/**
 * POST /exec: runs a command and streams what it prints; how it ended comes in the trailer Process-State.
 *
 * The order is part of the contract: what is wrong with the request is answered before the head goes out; the head
 * goes out before the command starts, since the client waits for it 20 s only; whatever happens after that is 200.
 */
import { once } from "node:events";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { parseBool } from "../../farm/flags.ts";
import { PROCESS_STATE } from "../../wire/buildlet-api/buildlet-api.ts";
import { decodeExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { Commands } from "../exec/commands.ts";
import { execEnv } from "../exec/exec-env.ts";
import { resolveExec } from "../exec/resolve.ts";
import { ensureWorkDir } from "../work-dir.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError } from "./api-error.ts";
import { readForm } from "./request.ts";

export class ExecHandler implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly commands: Commands;
  #bootstrap: Promise<string | undefined> | undefined;

  constructor(deps: ApiDeps) {
    this.#deps = deps;
    this.commands = new Commands(deps.clock, deps.platform);
  }

  async handle(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
    const { workDir, platform } = this.#deps;
    const windows = platform === "win32";
    if (request.httpVersionMajor < 1 || (request.httpVersionMajor === 1 && request.httpVersionMinor < 1)) {
      throw new ApiError(400, "Cannot run: want HTTP/1.1 or newer, for the trailer");
    }
    ensureWorkDir(workDir);
    response.setHeader("Trailer", PROCESS_STATE);
    const form = decodeExecForm(await readForm(request, query));
    const resolved = resolveExec(form, { workDir, path: process.env.PATH ?? "", windows });
    response.flushHeaders();
    this.#bootstrap ??= gorootBootstrap(workDir);
    const env = execEnv({
      own: { ...process.env, WORKDIR: workDir },
      workDir,
      gorootBootstrap: await this.#bootstrap,
      env: form.env,
      path: form.path,
      dir: resolved.dir,
      windows,
    });
    if (form.env.some((pair) => pair.startsWith("GO_DISABLE_OUTBOUND_NETWORK=") && parseBool(pair.slice(28)))) {
      await this.#deps.disableOutboundNetwork();
    }
    if (form.debug) {
      const list = (items: readonly string[]) => `[${items.map((item) => JSON.stringify(item)).join(" ")}]`;
      const pairs = Object.entries(env).map(([name, value]) => `${name}=${value}`);
      const args = list([resolved.program, ...form.args]);
      response.write(
        `:: Running ${resolved.program} with args ${args} and env ${list(pairs)} in dir ${resolved.dir}\n\n`,
      );
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("The client went away")));
    const sink = {
      write: (chunk: Buffer) => response.destroyed || response.write(chunk),
      drained: async () => void (await once(response, "drain", { signal: gone.signal }).catch(() => {})),
    };
    const state = await this.commands.run({ ...resolved, args: form.args, env }, sink, gone.signal);
    if (response.destroyed) return;
    response.addTrailers({ [PROCESS_STATE]: state });
    response.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.commands[Symbol.asyncDispose]();
  }
}

/** Decided at the first exec and kept: go1.4 of the work dir if it is there, else what the machine has. */
async function gorootBootstrap(workDir: string): Promise<string | undefined> {
  const own = join(workDir, "go1.4");
  const found = await stat(own).catch(() => undefined);
  return found ? own : process.env.GOROOT_BOOTSTRAP;
}
