/**
 * What the buildlet's HTTP server serves: one line per path (the API: wire/buildlet-api/buildlet-api.ts).
 *
 * An `open` path needs no password. A `guarded` one needs it in listen mode; in reverse mode there is none.
 */
import { EXEC_END_PATH } from "../../wire/buildlet-api/execution.ts";
import { sendDone, sendText } from "./answers.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError } from "./api-error.ts";
import type { ExecHandler } from "./exec-handler.ts";
import type { FileCalls } from "./file-calls.ts";
import { HEALTH_BODY, STATUS_BODY, STATUS_TYPE } from "./quick-answer.ts";
import { type Call, readForm } from "./request.ts";

type Handler = (call: Call) => Promise<void> | void;

export interface Route {
  readonly methods: readonly string[] | "any";
  /** Whether a call must give the password. */
  readonly guarded: boolean;
  readonly handle: Handler;
}

export interface RouteParts {
  readonly files: FileCalls;
  /** The part that runs commands, which is loaded when it is first asked for. */
  readonly exec: () => Promise<ExecHandler>;
}

/** The routes by their path. */
export function routesOf(deps: ApiDeps, { files, exec }: RouteParts): ReadonlyMap<string, Route> {
  const { system, workDir } = deps;
  return new Map<string, Route>([
    ["/", open(({ response }) => sendText(response, `buildlet running on ${system}\n`))],
    ["/healthz", open(({ response }) => sendText(response, HEALTH_BODY))],
    ["/debug/x", open(sendLetters)],
    ["/debug/goroutines", guarded("any", sendResources)],
    ["/status", guarded(["GET"], ({ response }) => sendText(response, STATUS_BODY, STATUS_TYPE))],
    ["/workdir", guarded(["GET"], ({ response }) => sendText(response, workDir))],
    ["/writetgz", guarded(["PUT", "POST"], (call) => files.writeTgz(call))],
    ["/write", guarded(["PUT"], (call) => files.write(call))],
    ["/tgz", guarded(["GET"], (call) => files.tgz(call))],
    ["/ls", guarded(["GET"], (call) => files.ls(call))],
    ["/removeall", guarded(["POST"], (call) => files.removeAll(call))],
    ["/exec", guarded(["POST"], (call) => run(call, exec, files.lease))],
    [EXEC_END_PATH, guarded(["POST"], (call) => endExecution(call, exec))],
    ["/halt", guarded(["POST"], ({ response }) => halt(response, deps))],
    ["/connect-ssh", guarded(["POST"], refuseTunnel)],
  ]);
}

function open(handle: Handler): Route {
  return { methods: "any", guarded: false, handle };
}

function guarded(methods: Route["methods"], handle: Handler): Route {
  return { methods, guarded: true, handle };
}

/** Sends `n` letters, for tests of the line. */
function sendLetters({ response, query }: Call): void {
  sendText(response, "X".repeat(Math.min(Math.max(Number(query.get("n")) || 0, 0), 1 << 20)));
}

/** Sends what keeps the process alive, one name per line. */
function sendResources({ response }: Call): void {
  sendText(response, `${process.getActiveResourcesInfo().join("\n")}\n`);
}

/** `lease`: the one in which the call came in. */
async function run(call: Call, exec: RouteParts["exec"], lease: AbortSignal): Promise<void> {
  const { request, response, query } = call;
  await (await exec()).handle(request, response, query, lease);
}

async function endExecution({ request, response, query }: Call, exec: RouteParts["exec"]): Promise<void> {
  const id = (await readForm(request, query)).get("id") ?? "";
  await (await exec()).executions.end(id);
  sendDone(response);
}

function halt(response: Call["response"], deps: ApiDeps): void {
  sendDone(response);
  deps.halt();
}

/** Reached only on a connection that served something else before; ./connections.ts takes the others. */
function refuseTunnel(): never {
  throw new ApiError(400, "Cannot open an ssh tunnel on a connection that was used before: dial anew");
}
