/**
 * Which farm a command talks to, and what is known of it.
 *
 * The address is -server, else GOMOTE_SERVER, else the one of the last `gomote login`. What belongs to one farm lies in
 * a folder of its own, so that no token is ever sent to another farm:
 *
 *   CFG/config.json               {"server": "farm.example.org:8119"}
 *   CFG/servers/HOST_PORT/token   the token that shows the farm who asks; mode 0600
 *   CFG/servers/HOST_PORT/ca.pem  the farm's certificate authority, unless it is one of the usual ones
 */
import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Address, formatAddress } from "../dial/address.ts";
import type { Environment } from "../dial/proxy.ts";
import { errnoOf, FarmError, messageOf } from "../farm/errors.ts";

/** The port of the original, too. */
const DEFAULT_PORT = 443;

export interface Server {
  readonly address: Address;
  /** The farm as `HOST:PORT`. */
  readonly name: string;
  /** The certificates to trust instead of the usual ones, in PEM. */
  readonly ca: string | undefined;
  /** The file they came from: the one that was named, else the one that `gomote login` wrote. */
  readonly caFile: string;
  /** The folder CFG/servers/HOST_PORT. */
  readonly folder: string;
}

export interface ServerFlags {
  readonly server: string;
  readonly "ca-file": string;
}

/** Reads `HOST`, `HOST:PORT`, `[IPv6]:PORT`, or the address of the farm's pages. */
export function parseServer(given: string): Address {
  const bare = given.replace(/^https:\/\//, "").replace(/\/$/, "");
  const [, bracketed, plain, port] = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(bare) ?? [];
  const host = bracketed ?? plain;
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if (host === undefined || number < 1 || number > 65_535) {
    throw new FarmError("bad-request", `Cannot use server ${JSON.stringify(given)}: want HOST:PORT`);
  }
  return { host, port: number };
}

/** The farm to talk to. Throws FarmError when none was named, or its certificates cannot be read. */
export async function findServer(folder: string, flags: ServerFlags, env: Environment): Promise<Server> {
  const given = flags.server || env.GOMOTE_SERVER || (await rememberedServer(folder));
  if (given === "") {
    throw new FarmError(
      "bad-request",
      "Cannot tell which farm is meant: give -server=HOST:PORT, or set GOMOTE_SERVER, or once `gomote -server=HOST:PORT login`",
    );
  }
  const address = parseServer(given);
  const name = formatAddress(address);
  const own = join(folder, "servers", name.replaceAll(/[[\]]/g, "").replaceAll(":", "_"));
  const named = flags["ca-file"] || env.GOMOTE_CA_FILE || "";
  const ca = named === "" ? await readIfThere(caFile(own)) : await readCa(named);
  return { address, name, folder: own, ca, caFile: named || caFile(own) };
}

/** Makes `server` the default, and keeps its certificates. */
export async function rememberServer(folder: string, server: Server): Promise<void> {
  await mkdir(server.folder, { recursive: true, mode: 0o700 });
  if (server.ca !== undefined) await replaceFile(caFile(server.folder), server.ca, 0o644);
  await replaceFile(join(folder, "config.json"), `${JSON.stringify({ server: server.name })}\n`, 0o644);
}

/**
 * The token of the user: GOMOTE_TOKEN, else the file that `gomote login` wrote; undefined when there is neither. Throws
 * when other users could read the file.
 */
export async function readToken(server: Server, env: Environment, platform: string): Promise<string | undefined> {
  const path = tokenFile(server);
  const token = env.GOMOTE_TOKEN?.trim() || (await readIfThere(path))?.trim();
  if (!token) return undefined;
  if (!env.GOMOTE_TOKEN && platform !== "win32" && ((await stat(path)).mode & 0o077) !== 0) {
    throw new FarmError("bad-request", `Cannot use ${path}: others can read it. Run: chmod 600 ${path}`);
  }
  if (/[^!-~]/.test(token)) {
    throw new FarmError(
      "bad-request",
      `Cannot use the token from ${env.GOMOTE_TOKEN ? "GOMOTE_TOKEN" : path}: want one word`,
    );
  }
  return token;
}

export async function writeToken(server: Server, token: string): Promise<void> {
  await mkdir(server.folder, { recursive: true, mode: 0o700 });
  await replaceFile(tokenFile(server), `${token}\n`, 0o600);
}

function tokenFile({ folder }: Server): string {
  return join(folder, "token");
}

function caFile(folder: string): string {
  return join(folder, "ca.pem");
}

async function rememberedServer(folder: string): Promise<string> {
  const path = join(folder, "config.json");
  const text = await readIfThere(path);
  if (text === undefined) return "";
  try {
    const { server } = JSON.parse(text) as { server?: unknown };
    if (server === undefined || typeof server === "string") return server ?? "";
  } catch {} // reported below
  throw new FarmError("bad-request", `Cannot use ${path}: want {"server": "HOST:PORT"}`);
}

async function readCa(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new FarmError("bad-request", `Cannot read -ca-file ${JSON.stringify(path)}: ${messageOf(error)}`);
  });
  if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  throw new FarmError("bad-request", `Cannot use -ca-file ${JSON.stringify(path)}: want certificates in PEM form`);
}

async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  });
}

/** Replaces a file. A command that reads meanwhile sees either the old text or the new one. */
export async function replaceFile(path: string, text: string | Uint8Array, mode: number): Promise<void> {
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, text, { mode });
  await rename(draft, path);
}
