/**
 * The calls about files of the work dir: archives and single files come in, folders go out, are listed and removed.
 *
 * What comes in is written for one lease only (./writes.ts), and removals take turns (./removals.ts). The code that
 * does the work of a call is loaded when the call first comes.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { messageOf } from "../../farm/errors.ts";
import { parseBool } from "../../farm/flags.ts";
import {
  EXCLUDE_FIELD,
  LEASE_GOES_ON,
  LEASE_HEADER,
  ONLY_FIELD,
  SKIPPED_HEADER,
  SNAPSHOT_BESIDE,
  SNAPSHOT_HEADER,
  SYMLINKS_HEADER,
  SYMLINKS_KEEP,
} from "../../wire/buildlet-api/buildlet-api.ts";
import { LS_DEPTH, LS_NUL, LS_SKIP_NAME } from "../../wire/buildlet-api/ls-line.ts";
import { TAR_LIMITS } from "../../wire/tar/tar-reader.ts";
import { ensureWorkDir } from "../work-dir.ts";
import { sendAll, sendDone, sendText } from "./answers.ts";
import type { ApiDeps } from "./api-deps.ts";
import { ApiError, orSay } from "./api-error.ts";
import { KnownDigests } from "./known-digests.ts";
import { Removals } from "./removals.ts";
import { type Call, checkRelPath, readForm } from "./request.ts";
import { Writes } from "./writes.ts";

/** What the calls about files need from the part that runs commands. */
export interface CommandHooks {
  /** A command will soon be asked for: loads the code that runs it, and returns at once. */
  readonly prepare: () => void;
  /** The lease is over: ends everything that it left running. */
  readonly endLease: () => Promise<void>;
}

export class FileCalls {
  readonly #deps: ApiDeps;
  readonly #commands: CommandHooks;
  readonly #digests: KnownDigests;
  readonly #writes: Writes;
  readonly #removals: Removals;

  constructor(deps: ApiDeps, commands: CommandHooks) {
    const { clock, workDir } = deps;
    this.#deps = deps;
    this.#commands = commands;
    this.#digests = new KnownDigests(clock);
    this.#writes = new Writes(clock);
    this.#removals = new Removals({ clock, workDir, writes: this.#writes, endLease: commands.endLease });
  }

  /** Aborts when the present lease ends. */
  get lease(): AbortSignal {
    return this.#writes.lease;
  }

  /** PUT and POST /writetgz: unpacks an archive, which is the body of a PUT; a POST names its URL. */
  async writeTgz({ request, response, query }: Call): Promise<void> {
    const { platform, workDir, clock, tarLimits: limits = TAR_LIMITS } = this.#deps;
    const dir = this.#dirOf(query);
    await this.#writes.run(response, async (signal) => {
      this.#commands.prepare();
      const { unpack } = await import("./unpack.ts");
      let body: Readable = request;
      if (request.method === "POST") {
        if (await hasBootstrap(dir, query)) return sendText(response, "SKIP");
        body = await fetched({ request, response, query }, signal);
      }
      signal.throwIfAborted();
      await orSay(`Cannot make folder ${JSON.stringify(query.get("dir") ?? "")}`, async () => {
        ensureWorkDir(workDir);
        mkdirSync(dir, { recursive: true, mode: 0o755 });
      });
      const keepLinks = request.method === "PUT" && request.headers[SYMLINKS_HEADER.toLowerCase()] === SYMLINKS_KEEP;
      const nowSeconds = () => clock.now() / 1000;
      const skipped = await unpack(body, dir, { platform, limits, nowSeconds, keepLinks, signal });
      if (keepLinks) response.setHeader(SKIPPED_HEADER, skipped);
      sendText(response, "OK");
    });
  }

  /** PUT /write: writes the body as one file. */
  async write({ request, response, query }: Call): Promise<void> {
    const { platform, workDir } = this.#deps;
    const path = this.#relPath("path", query.get("path") ?? "");
    const mode = modeOf(query.get("mode") ?? "");
    await this.#writes.run(response, async (signal) => {
      const { writeFile } = await import("./unpack.ts");
      await orSay(`Cannot write ${JSON.stringify(path)}`, async () => {
        signal.throwIfAborted();
        ensureWorkDir(workDir);
        await writeFile(request, join(workDir, path), mode, { platform, signal });
      });
      sendText(response, "OK");
    });
  }

  /** GET /tgz: packs a folder: all of it, the files that are named, or a snapshot without what the call excludes. */
  async tgz({ request, response, query }: Call): Promise<void> {
    const { program, workDir } = this.#deps;
    const dir = join(workDir, this.#relPath("dir", query.get("dir") ?? ""));
    response.setHeader("Content-Type", "application/x-gzip");
    if (request.headers[SNAPSHOT_HEADER.toLowerCase()] === SNAPSHOT_BESIDE) {
      const { packBeside } = await import("./pack-beside.ts");
      response.setHeader(SNAPSHOT_HEADER, SNAPSHOT_BESIDE);
      await sendAll(response, packBeside(program, { dir, exclude: query.getAll(EXCLUDE_FIELD) }), "cut");
      return;
    }
    const { pack, packFiles } = await import("./pack.ts");
    mkdirSync(workDir, { recursive: true });
    const only = query.getAll(ONLY_FIELD).map((path) => this.#relPath(ONLY_FIELD, path));
    await sendAll(response, only.length === 0 ? pack(dir) : packFiles(dir, only), "cut");
  }

  /** GET /ls: lists a folder. */
  async ls({ response, query }: Call): Promise<void> {
    const { list } = await import("./list.ts");
    const yes = (name: string) => parseBool(query.get(name) ?? "") ?? false;
    const options = {
      recursive: yes("recursive"),
      depth: Number(query.get(LS_DEPTH) ?? "") || Number.POSITIVE_INFINITY,
      digests: yes("digest") ? this.#digests : undefined,
      skip: new Set(query.getAll("skip")),
      skipNames: new Set(query.getAll(LS_SKIP_NAME)),
      end: yes(LS_NUL) ? "\0" : "\n",
    } as const;
    response.setHeader("Content-Type", "text/plain; charset=utf-8");
    const dir = this.#dirOf(query);
    mkdirSync(this.#deps.workDir, { recursive: true }); // /removeall may have removed it
    await orSay(`Cannot list ${JSON.stringify(query.get("dir") ?? "")}`, () =>
      sendAll(response, list(dir, options), "explain"),
    );
  }

  /** POST /removeall: deletes the paths that are named. */
  async removeAll({ request, response, query }: Call): Promise<void> {
    const paths = (await readForm(request, query)).getAll("path");
    if (paths.length === 0) throw new ApiError(400, "Cannot delete: parameter path is missing");
    for (const path of paths) this.#relPath("path", path);
    await this.#removals.remove(paths, request.headers[LEASE_HEADER.toLowerCase()] === LEASE_GOES_ON);
    this.#commands.prepare();
    sendDone(response);
  }

  /** The folder that the parameter `dir` names: the work dir where it is missing or empty. */
  #dirOf(query: URLSearchParams): string {
    const dir = query.get("dir") ?? "";
    return dir === "" ? this.#deps.workDir : join(this.#deps.workDir, this.#relPath("dir", dir));
  }

  #relPath(parameter: string, path: string): string {
    return checkRelPath(parameter, path, this.#deps.platform === "win32");
  }
}

/** Whether the archive would be unpacked over a bootstrap toolchain, the folder go1.4, that is there already. */
async function hasBootstrap(dir: string, query: URLSearchParams): Promise<boolean> {
  if (query.get("dir") !== "go1.4") return false;
  const { stat } = await import("node:fs/promises");
  return (await stat(dir).catch(() => undefined))?.isDirectory() ?? false;
}

/** The body of the URL that the call names. It is given up when the client hangs up. */
async function fetched({ request, response, query }: Call, signal: AbortSignal): Promise<Readable> {
  const url = (await readForm(request, query)).get("url") ?? "";
  if (url === "") throw new ApiError(400, "Cannot fetch: parameter url is missing");
  const { fetchBody } = await import("../../dial/http-get.ts");
  const body = await fetchBody(url, { signal }).catch((error) => {
    throw new ApiError(500, `Cannot fetch ${url}: ${messageOf(error)}`, { cause: error });
  });
  response.once("close", () => body.destroy());
  return body;
}

function modeOf(given: string): number {
  const mode = Number(given);
  if (!/^\d+$/.test(given) || mode > 0o777) {
    throw new ApiError(400, `Bad mode ${JSON.stringify(given)}: want permission bits in decimal, as 420 for 0644`);
  }
  return mode;
}
