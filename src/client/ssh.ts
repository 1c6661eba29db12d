/**
 * The way to a shell on an instance, for the system's own ssh.
 *
 *   CFG/.ssh/id_ed25519, .pub              this user's key pair for gomotes, made once (ssh-keygen)
 *   CFG/servers/HOST_PORT/known_hosts      the gateway's keys, as the farm told them over TLS, so that nobody is asked whether to trust them
 *   CFG/servers/HOST_PORT/ID-cert.pub      the farm's certificate for key and instance, good for minutes, written anew each time, removed after a day
 *
 * Nobody who lends a machine may run anything here. What a farm says becomes arguments of ssh and lines of its files, where a line feed or a
 * hyphen would be an option more (ProxyCommand is one): so ids, addresses and keys are only what such things are made of, or are refused.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes } from "../farm/ids.ts";
import { replaceFile } from "./server.ts";
import type { Session } from "./session.ts";
import { shellLine } from "./shell-line.ts";

/** As the original's. */
const GATEWAY_PORT = 2222;
/** What ssh itself says when it could not connect. */
const SSH_FAILED = 255;
const KEYS_NAME = "gomote-gateway";

/**
 * An id begins with the name of a person, as people/names.ts allows it. None may be an option of ssh, and none may be
 * more than one word or a pattern in a file of ssh. ssh itself takes no quotes in names.
 */
const ID = /^[\p{L}\p{N}_][\p{L}\p{N}._+=~@-]*$/u;
/** `HOST:PORT`, of which either may be missing. */
const GATEWAY = /^(?:\[([0-9A-Fa-f:.]+)\]|((?!-)[A-Za-z0-9._-]*))(?::(\d{1,5}))?$/;
/** `TYPE BASE64` */
const HOST_KEY = /^[a-z0-9@.-]+ [A-Za-z0-9+/=]+$/;

const CERTIFICATE = "-cert.pub";
/** The instance of a certificate that is as old has ended as a rule; where it has not, the next ssh has it written anew. */
const KEPT: Ms = minutes(24 * 60);

/** For a while: until the certificate expires. */
interface Way {
  readonly host: string;
  /** Names and values as ssh_config(5) has them. */
  readonly settings: readonly (readonly [name: string, value: string])[];
}

/** `gateway`: `HOST:PORT`, "" for the one that the farm names; `more`: further arguments of ssh. The exit status of ssh. */
export async function ssh(session: Session, id: string, gateway: string, more: readonly string[]): Promise<number> {
  const { host, settings } = await wayTo(session, id, gateway);
  const options = settings.flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  // Options of ssh may come before its host only; what is no option is the remote command.
  const at = firstWord(more);
  const args = [...options, ...more.slice(0, at), `${id}@${host}`, ...more.slice(at)];
  session.output.note(`$ ${shellLine(["ssh", ...args])}`);
  return await runProgram("ssh", args, session.computer.signal);
}

/**
 * Lines for a configuration file of ssh, by which it, scp, sftp and rsync find the instance under its id. Each time they do, they have the
 * certificate renewed, by words that mean the same farm from any folder, without GOMOTE_SERVER, and after a login elsewhere.
 */
export async function sshConfig(session: Session, id: string, gateway: string): Promise<string> {
  const { host, settings } = await wayTo(session, id, gateway);
  const words = ["gomote", ...(await session.serverWords()), "ssh", "-config"];
  if (gateway !== "") words.push(`-gateway=${gateway}`);
  const lines = [["HostName", host], ["User", id], ...settings].map(([key, value]) => `  ${key} ${value}\n`);
  return `Match originalhost ${quoted(id)} exec ${quoted(shellLine([...words, id]))}\n${lines.join("")}`;
}

async function wayTo(session: Session, id: string, gateway: string): Promise<Way> {
  if (!ID.test(id))
    throw new FarmError(
      "bad-request",
      `Cannot name ${JSON.stringify(id)} to ssh: want letters, digits and . _ + = ~ @ -`,
    );
  const client = await session.client();
  const { address, folder } = await session.server();
  const key = await keyPair(session.configFolder, session.computer.signal);
  const signed = await client.signSshKey(id, await readFile(`${key}.pub`));
  const described = await client.ifOffered(`ask for ${id}`, (own, options) =>
    own.describeInstance({ gomoteId: id }, options),
  );
  const { host, port } = gatewayOf(gateway || described?.sshAddress || "", address.host);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await removeOld(folder, session.computer.clock.now());
  const certificate = join(folder, encodeURIComponent(id) + CERTIFICATE);
  await replaceFile(certificate, signed, 0o600);
  const settings: [string, string][] = [
    ["CertificateFile", quoted(certificate)],
    ["IdentityFile", quoted(key)],
    ["IdentitiesOnly", "yes"],
    ["Port", String(port)],
  ];
  const hostKeys = gateway === "" ? (described?.sshHostKeys ?? []) : [];
  if (hostKeys.length > 0) {
    const known = join(folder, "known_hosts");
    await replaceFile(known, knownHosts(hostKeys), 0o600);
    settings.push(["UserKnownHostsFile", quoted(known)], ["StrictHostKeyChecking", "yes"], ["HostKeyAlias", KEYS_NAME]);
  }
  return { host, settings };
}

/** Removes the certificates in `folder` that nobody had renewed for long. */
async function removeOld(folder: string, now: EpochMs): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(CERTIFICATE)) continue;
    const path = join(folder, name);
    // Another command may have removed it.
    const written = await stat(path).catch(() => undefined);
    if (written !== undefined && now - written.mtimeMs > KEPT) await rm(path, { force: true });
  }
}

/** Lines of a file known_hosts, for keys as the farm has them. */
export function knownHosts(keys: readonly string[]): string {
  const wrong = keys.find((key) => !HOST_KEY.test(key));
  if (wrong !== undefined)
    throw new FarmError("bad-request", `Cannot use the gateway's key ${JSON.stringify(wrong)}: want TYPE BASE64`);
  return keys.map((key) => `${KEYS_NAME} ${key}\n`).join("");
}

/** As one word that means itself. */
function quoted(word: string): string {
  return `"${word.replaceAll("%", "%%").replaceAll(/["\\]/g, "\\$&")}"`;
}

/** Options of ssh that take a value. */
const WITH_VALUE = "BbcDEeFIiJLlmOoPpRSWw";

/** Where the remote command begins in arguments of ssh. */
export function firstWord(args: readonly string[]): number {
  let at = 0;
  for (; at < args.length; at++) {
    const argument = args[at] ?? "";
    if (argument === "--") return at;
    if (!argument.startsWith("-")) return at;
    // `-p 22` is two arguments, `-p22` and `-tt` are one, and so is `-vp22`.
    const takes = [...argument.slice(1)].findIndex((letter) => WITH_VALUE.includes(letter));
    if (takes >= 0 && takes === argument.length - 2) at++;
  }
  return at;
}

export function gatewayOf(given: string, farm: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, port] = GATEWAY.exec(given) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined)
    throw new FarmError("bad-request", `Cannot use the gateway ${JSON.stringify(given)}: want HOST:PORT`);
  return { host: host || farm, port: port === undefined ? GATEWAY_PORT : Number(port) };
}

/** The path of the private key; made when one of its two files is missing. */
async function keyPair(configFolder: string, signal: AbortSignal): Promise<string> {
  const folder = join(configFolder, ".ssh");
  const key = join(folder, "id_ed25519");
  if (existsSync(key) && existsSync(`${key}.pub`)) return key;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await rm(key, { force: true });
  const how = ["-q", "-o", "-a", "256", "-t", "ed25519", "-N", "", "-C", "gomote", "-f", key];
  const status = await runProgram("ssh-keygen", how, signal);
  if (status !== 0) throw new FarmError("internal", `Cannot make a key pair: ssh-keygen ended with ${status}`);
  return key;
}

/** Its exit status. `signal` ends it; whatever ends this process kills it. */
async function runProgram(program: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  const child = spawn(program, [...args], { stdio: "inherit" });
  const end = () => void child.kill("SIGTERM");
  const kill = () => void child.kill("SIGKILL");
  signal.addEventListener("abort", end, { once: true });
  process.once("exit", kill);
  try {
    return await new Promise((done, failed) => {
      child.once("error", (error) => {
        const reason = errnoOf(error) === "ENOENT" ? "it is not installed" : error.message;
        failed(new FarmError("internal", `Cannot run ${program}: ${reason}`, { cause: error }));
      });
      child.once("exit", (code) => done(code ?? SSH_FAILED));
    });
  } finally {
    signal.removeEventListener("abort", end);
    process.off("exit", kill);
  }
}
