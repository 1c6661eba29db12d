/**
 * A shell on an instance, by the system's own ssh.
 *
 *   CFG/.ssh/id_ed25519, .pub   this user's key pair for gomotes, made once (ssh-keygen)
 *   TEMP/gomote…/cert.pub       the farm's certificate for it, good for minutes; the folder goes when ssh ends
 *   TEMP/gomote…/known_hosts    the gateway's keys, as the farm told them over TLS, so that nobody is asked whether to trust them
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, FarmError } from "../farm/errors.ts";
import type { Session } from "./session.ts";

/** As the original's. */
const GATEWAY_PORT = 2222;
/** What ssh itself says when it could not connect. */
const SSH_FAILED = 255;

/** `gateway`: `HOST:PORT`, "" for the one that the farm names; `more`: further arguments of ssh. The exit status of ssh. */
export async function ssh(session: Session, id: string, gateway: string, more: readonly string[]): Promise<number> {
  const client = await session.client();
  const key = await keyPair(session.configFolder);
  const signed = await client.signSshKey(id, await readFile(`${key}.pub`));
  const described = await client.ifOffered(`ask for ${id}`, (own, options) =>
    own.describeInstance({ gomoteId: id }, options),
  );
  const { host, port } = gatewayOf(gateway || described?.sshAddress || "", (await session.server()).address.host);
  const folder = await mkdtemp(join(session.computer.tempFolder, "gomote"));
  try {
    const certificate = join(folder, "cert.pub");
    await writeFile(certificate, signed, { mode: 0o600 });
    const options = ["-o", `CertificateFile=${certificate}`, "-i", key, "-p", String(port)];
    const hostKeys = gateway === "" ? (described?.sshHostKeys ?? []) : [];
    if (hostKeys.length > 0) {
      const known = join(folder, "known_hosts");
      await writeFile(known, hostKeys.map((each) => `gomote-gateway ${each}\n`).join(""));
      options.push(
        "-o",
        `UserKnownHostsFile=${known}`,
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "HostKeyAlias=gomote-gateway",
      );
    }
    // Options of ssh may come before its host only; what is no option is the remote command.
    const at = firstWord(more);
    const args = [...options, ...more.slice(0, at), `${id}@${host}`, ...more.slice(at)];
    session.output.note(`$ ssh ${args.join(" ")}`);
    return await runProgram("ssh", args);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
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
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?$/.exec(given) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined)
    throw new FarmError("bad-request", `Cannot use the gateway ${JSON.stringify(given)}: want HOST:PORT`);
  return { host: host || farm, port: port === undefined ? GATEWAY_PORT : Number(port) };
}

/** The path of the private key; made when one of its two files is missing. */
async function keyPair(configFolder: string): Promise<string> {
  const folder = join(configFolder, ".ssh");
  const key = join(folder, "id_ed25519");
  if (existsSync(key) && existsSync(`${key}.pub`)) return key;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await rm(key, { force: true });
  const status = await runProgram("ssh-keygen", [
    "-q",
    "-o",
    "-a",
    "256",
    "-t",
    "ed25519",
    "-N",
    "",
    "-C",
    "gomote",
    "-f",
    key,
  ]);
  if (status !== 0) throw new FarmError("internal", `Cannot make a key pair: ssh-keygen ended with ${status}`);
  return key;
}

async function runProgram(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, [...args], { stdio: "inherit" });
  return await new Promise((done, failed) => {
    child.once("error", (error) => {
      const reason = errnoOf(error) === "ENOENT" ? "it is not installed" : error.message;
      failed(new FarmError("internal", `Cannot run ${program}: ${reason}`, { cause: error }));
    });
    child.once("exit", (code) => done(code ?? SSH_FAILED));
  });
}
