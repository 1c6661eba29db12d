/**
 * The buildlet's HTTP API as calls (machine-session.ts BuildletClient).
 *
 * A refusal (4xx, and 500 of /ls) becomes `bad-request`, since the machine is well and another would say the same. A
 * 5xx, an answer that is not HTTP and a missing trailer become `machine-broken`. The message is the machine's own
 * words, up to 4 KiB of them (refusal.ts). `status`, `workDir` and `exec` must begin to answer within HEAD_LIMIT; the
 * other calls take as long as their work.
 */
import { type Duplex, Readable } from "node:stream";
import type { Log } from "../../farm/deps.ts";
import { FarmError } from "../../farm/errors.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { RECONNECT_WITHIN } from "../../farm/lease.ts";
import { sizeText } from "../../farm/size-text.ts";
import {
  EXCLUDE_FIELD,
  EXEC_HEAD_LIMIT_MS,
  LEASE_GOES_ON,
  LEASE_HEADER,
  LEASE_OVER,
  ONLY_FIELD,
  PROCESS_STATE,
  SKIPPED_HEADER,
  SNAPSHOT_BESIDE,
  SNAPSHOT_HEADER,
  SYMLINKS_HEADER,
  SYMLINKS_KEEP,
} from "../../wire/buildlet-api/buildlet-api.ts";
import { encodeExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { EXEC_END_PATH, executionAge, executionFields, executionLength } from "../../wire/buildlet-api/execution.ts";
import { LS_DEPTH, LS_NUL, LS_SKIP_NAME, linesOf } from "../../wire/buildlet-api/ls-line.ts";
import { PROCESS_OK } from "../../wire/buildlet-api/process-state.ts";
import { SHELL_PATH, SHELL_UPGRADE } from "../../wire/buildlet-api/shell.ts";
import { fieldValues, type HeaderField } from "../../wire/revdial/http-head.ts";
import type { BuildletClient, ExecRequest, ExecResult, LsOptions, SnapshotBody, Unpacked } from "../machine-session.ts";
import { Exchanges, type ExchangesOptions, type Request, type Response } from "./exchange.ts";
import { refusal } from "./refusal.ts";
import { switched } from "./switched.ts";

const HEAD_LIMIT: Ms = ms(EXEC_HEAD_LIMIT_MS);
const HALT_LIMIT: Ms = seconds(2);
const FORM = "application/x-www-form-urlencoded";
/** How many bytes of an error's body are kept. */
const ERROR_LIMIT = 4096;
/** The limit for an answer of the small calls. They all send less. */
const ANSWER_LIMIT = 1024 * 1024;
const EXCLUDE_LIMIT = 8 * 1024;
const LS_LIMIT = 256 * 1024 * 1024;

export interface HttpBuildletOptions extends ExchangesOptions {
  readonly log: Log;
}

export class HttpBuildlet implements BuildletClient {
  readonly #options: HttpBuildletOptions;
  readonly #name: string;
  readonly #exchanges: Exchanges;
  readonly #aloneFor: () => Ms;
  /** The work dir. It is asked for once, since it stays the same during a session. */
  #workDir: string | undefined;

  /** `aloneFor` says how long a command may go on when nobody follows it. */
  constructor(options: HttpBuildletOptions, aloneFor: () => Ms = () => RECONNECT_WITHIN) {
    this.#options = options;
    this.#aloneFor = aloneFor;
    this.#name = options.name;
    this.#exchanges = new Exchanges(options);
  }

  /** Closes connections that are not needed. */
  tick(): void {
    this.#exchanges.tick();
  }

  async status(signal?: AbortSignal): Promise<{ readonly version: number }> {
    const text = await this.#text(
      { method: "GET", target: "/status", doing: "ask for the version", headLimit: HEAD_LIMIT },
      ANSWER_LIMIT,
      signal,
    );
    let version: unknown;
    try {
      version = (JSON.parse(text) as { Version?: unknown } | null)?.Version;
    } catch {
      // It is reported below, like anything else that is not a version.
    }
    if (typeof version !== "number") throw this.#broken(`GET /status answered ${JSON.stringify(text.slice(0, 200))}`);
    return { version };
  }

  async workDir(signal?: AbortSignal): Promise<string> {
    this.#workDir ??= await this.#text(
      { method: "GET", target: "/workdir", doing: "ask for the work dir", headLimit: HEAD_LIMIT },
      ANSWER_LIMIT,
      signal,
    );
    return this.#workDir;
  }

  async removeAll(paths: readonly string[], signal?: AbortSignal): Promise<void> {
    const form = new URLSearchParams(paths.map((path): [string, string] => ["path", path]));
    await this.#post("/removeall", "delete files", form, signal, [[LEASE_HEADER, LEASE_GOES_ON]]);
  }

  async cleanUp(signal?: AbortSignal): Promise<void> {
    const fields = [[LEASE_HEADER, LEASE_OVER]] as const;
    await this.#post("/removeall", "empty the machine", new URLSearchParams({ path: "." }), signal, fields);
  }

  async writeTgz(dir: string, body: Readable, signal?: AbortSignal): Promise<Unpacked> {
    const target = `/writetgz?${new URLSearchParams({ dir })}`;
    const fields = [[SYMLINKS_HEADER, SYMLINKS_KEEP] as const];
    const doing = `unpack an archive in ${quoted(dir || ".")}`;
    const type = "application/octet-stream";
    const response = await this.#ask({ method: "PUT", target, doing, type, fields, body }, signal);
    await this.#collect(response, ANSWER_LIMIT, "refuse");
    const [skipped = ""] = fieldValues(response.head, SKIPPED_HEADER);
    return { skippedLinks: /^\d{1,9}$/.test(skipped) ? Number(skipped) : undefined };
  }

  async writeTgzFromUrl(dir: string, url: string, signal?: AbortSignal): Promise<void> {
    await this.#post(
      `/writetgz?${new URLSearchParams({ dir })}`,
      "fetch an archive",
      new URLSearchParams({ url }),
      signal,
    );
  }

  async writeFile(path: string, mode: number, body: Uint8Array | Readable, signal?: AbortSignal): Promise<void> {
    const target = `/write?${new URLSearchParams({ path, mode: String(mode) })}`; // in decimal
    const doing = `write ${quoted(path)}`;
    await this.#text({ method: "PUT", target, doing, type: "application/octet-stream", body }, ANSWER_LIMIT, signal);
  }

  async readTgz(dir: string, signal?: AbortSignal): Promise<Readable> {
    return this.#stream(await this.#ask(packing(dir, new URLSearchParams({ dir })), signal));
  }

  async readFiles(dir: string, names: readonly string[], signal?: AbortSignal): Promise<Readable> {
    const query = new URLSearchParams({ dir });
    for (const name of names) query.append(ONLY_FIELD, name);
    return this.#stream(await this.#ask(packing(dir, query), signal));
  }

  async readSnapshot(dir: string, exclude: readonly string[], signal?: AbortSignal): Promise<SnapshotBody> {
    const query = new URLSearchParams({ dir });
    for (const line of exclude) query.append(EXCLUDE_FIELD, line);
    // The machine takes a head of 16 KiB. Names that do not fit are left out.
    const whole = packing(dir, query);
    const fits = whole.target.length <= EXCLUDE_LIMIT;
    const fields = [[SNAPSHOT_HEADER, SNAPSHOT_BESIDE] as const];
    const request = fits ? whole : packing(dir, new URLSearchParams({ dir }));
    const response = await this.#ask({ ...request, fields }, signal);
    const [how] = fieldValues(response.head, SNAPSHOT_HEADER);
    const body = this.#stream(response);
    return { body, excluded: exclude.length === 0 || (fits && how === SNAPSHOT_BESIDE) };
  }

  async ls(dir: string, options: LsOptions, signal?: AbortSignal): Promise<string[]> {
    const response = await this.#ask(listing(dir, options), signal);
    return linesOf(await this.#collect(response, LS_LIMIT, "too-large"));
  }

  async readLs(dir: string, options: LsOptions, signal?: AbortSignal): Promise<Readable> {
    const response = await this.#ask(listing(dir, options), signal);
    return this.#stream(response);
  }

  async exec(
    request: ExecRequest,
    onOutput: (chunk: Buffer) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<ExecResult> {
    const { cmd, args, env, path, dir = "", system = false, debug = false, execution } = request;
    const body = Buffer.from(encodeExecForm({ cmd, args, dir, env, path, system, debug }));
    const fields = execution ? executionFields({ ...execution, aloneFor: this.#aloneFor() }) : [];
    const response = await this.#ask(
      { method: "POST", target: "/exec", doing: `run ${quoted(cmd)}`, type: FORM, fields, body, headLimit: HEAD_LIMIT },
      signal,
    );
    if (execution) execution.began?.(executionAge(response.head), executionLength(response.head));
    for await (const chunk of this.#pieces(response)) {
      const taken = onOutput(chunk);
      if (taken) await taken;
    }
    const [state] = fieldValues({ fields: response.body.trailers }, PROCESS_STATE);
    if (!state) throw this.#broken(`POST /exec ended without saying how the command ${JSON.stringify(cmd)} ended`);
    return { state, ok: state === PROCESS_OK };
  }

  async endExecution(id: string, signal?: AbortSignal): Promise<void> {
    await this.#post(EXEC_END_PATH, "end a command", new URLSearchParams({ id }), signal);
  }

  async openShell(signal?: AbortSignal): Promise<Duplex> {
    const request = { target: SHELL_PATH, doing: "open a shell", protocol: SHELL_UPGRADE };
    return (await switched(this.#options, request, signal)).socket;
  }

  async connectSsh(user: string, authorizedKey: string, signal?: AbortSignal): Promise<Duplex> {
    const fields = [
      ["X-Go-Ssh-User", user],
      ["X-Go-Authorized-Key", authorizedKey],
    ] as const;
    const request = { target: "/connect-ssh", doing: "reach the machine's ssh server", protocol: "ssh", fields };
    return (await switched(this.#options, request, signal)).socket;
  }

  async halt(): Promise<void> {
    const request: Request = { method: "POST", target: "/halt", doing: "halt it", type: FORM, headLimit: HALT_LIMIT };
    await this.#text(request, ANSWER_LIMIT).catch(() => {});
  }

  async #post(
    target: string,
    doing: string,
    form: URLSearchParams,
    signal: AbortSignal | undefined,
    fields: readonly HeaderField[] = [],
  ): Promise<void> {
    const body = Buffer.from(form.toString());
    await this.#text({ method: "POST", target, doing, type: FORM, fields, body }, ANSWER_LIMIT, signal);
  }

  /** The response to `request` if its status is 200; otherwise throws its words as an error. */
  async #ask(request: Request, signal: AbortSignal | undefined): Promise<Response> {
    const response = await this.#exchanges.send(request, signal);
    const { status } = response.head;
    if (status === 200) return response;
    const words = (await this.#collect(response, ERROR_LIMIT, "cut").catch(() => "")).trim();
    const call = `${request.method} ${request.target.split("?", 1)[0]}`;
    // /ls answers 500 for a folder that does not exist or cannot be read.
    const refused = (status >= 400 && status < 500) || (status === 500 && call === "GET /ls");
    const code = refused ? "bad-request" : "machine-broken";
    throw refusal(this.#options.log, code, { name: this.#name, call, doing: request.doing, status, words });
  }

  async #text(request: Request, limit: number, signal?: AbortSignal): Promise<string> {
    return await this.#collect(await this.#ask(request, signal), limit, "refuse");
  }

  async #collect(response: Response, limit: number, over: "cut" | "refuse" | "too-large"): Promise<string> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this.#pieces(response)) {
      chunks.push(chunk);
      length += chunk.length;
      if (length <= limit) continue;
      if (over === "too-large")
        throw new FarmError("too-large", `what ${this.#name} lists is more than ${sizeText(limit)}`);
      if (over === "refuse") throw this.#broken(`its answer is longer than ${limit} bytes`);
      break;
    }
    return Buffer.concat(chunks).toString("utf8", 0, Math.min(length, limit));
  }

  /** The body in pieces. Gives the connection back at the end, or destroys it when the reader stops before. */
  async *#pieces(response: Response): AsyncGenerator<Buffer, void> {
    let whole = false;
    try {
      for (;;) {
        const chunk = await response.body.next();
        if (chunk === undefined) break;
        yield chunk;
      }
      whole = true;
    } catch (error) {
      throw await response.explain(error);
    } finally {
      response.done(whole);
    }
  }

  /** The body as a stream. Destroying it, even unread, destroys the connection at once, whatever the machine does. */
  #stream(response: Response): Readable {
    const pieces = this.#pieces(response);
    return new Readable({
      read() {
        pieces.next().then(
          ({ done, value }) => this.push(done ? null : value),
          (error: Error) => this.destroy(error),
        );
      },
      destroy(error, destroyed) {
        response.done(false); // the pieces have called it themselves if they were all read
        destroyed(error);
      },
    });
  }

  #broken(why: string): FarmError {
    return new FarmError("machine-broken", `Machine ${JSON.stringify(this.#name)} broke the protocol: ${why}`);
  }
}

function packing(dir: string, query: URLSearchParams): Request {
  return { method: "GET", target: `/tgz?${query}`, doing: `pack ${quoted(dir)}` };
}

function listing(dir: string, options: LsOptions): Request {
  return { method: "GET", target: `/ls?${lsQuery(dir, options)}`, doing: `list ${quoted(dir)}` };
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

function lsQuery(dir: string, options: LsOptions): URLSearchParams {
  const { recursive = false, digest = false, skip = [], skipNames = [], depth, nul = false } = options;
  const query = new URLSearchParams({ dir, recursive: String(recursive), digest: String(digest) });
  for (const path of [...skip, ...skipNames]) query.append("skip", path);
  for (const name of skipNames) query.append(LS_SKIP_NAME, name);
  if (depth !== undefined) query.append(LS_DEPTH, String(depth));
  if (nul) query.append(LS_NUL, "true");
  return query;
}
