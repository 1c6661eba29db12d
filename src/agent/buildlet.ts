/**
 * The buildlet: lends this machine to a coordinator. To try it, with a coordinator on this machine:
 *
 *   buildlet -reverse-type=host-linux-amd64-localdev -reboot=false -halt=false
 *
 *   reverse mode   Registers and serves. When a session is lost the same process begins another, so that commands go on
 *                  (reverse/stay-registered.ts). It ends with 0 when the farm told it to leave, is not of our own kind,
 *                  or does not come back. A supervisor (stage0 under systemd, say) then starts the newest agent.
 *   listen mode    Serves every client that dials and knows the password, until it is told to stop.
 *
 * Exit codes: 0 the session is over or the machine was told to halt; 1 it could not begin (the last line says why).
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { type Address, formatAddress, parseAddress } from "../dial/address.ts";
import type { Environment } from "../dial/proxy.ts";
import type { Clock } from "../farm/clock.ts";
import { messageOf } from "../farm/errors.ts";
import { seconds } from "../farm/ids.ts";
import { BUILDLET_VERSION } from "../wire/buildlet-api/buildlet-api.ts";
import { RESUME_VERSION } from "../wire/buildlet-api/execution.ts";
import type { HeaderField } from "../wire/revdial/http-head.ts";
import { encodeAgentInfo, REGISTRATION_HEADERS, REVDIAL_VERSION } from "../wire/revdial/registration.ts";
import { Connections } from "./api/connections.ts";
import type { BuildletFlags } from "./buildlet-flags.ts";
import { dialer, type TlsTrust, trustFor } from "./dial.ts";
import { ownUser } from "./exec/own-user.ts";
import { serveHealth } from "./health.ts";
import { isProduction, keyInput, readKey, showsDevKey } from "./key.ts";
import { type ListenSettings, listenSettings } from "./listen-settings.ts";
import { goSystem, machineName, platformText, programDigest } from "./machine-info.ts";
import { outboundNetworkSwitch } from "./outbound-network.ts";
import { haltCommand, rebootCommand, runPowerCommand } from "./power.ts";
import { stayRegistered } from "./reverse/stay-registered.ts";
import { openWorkDir } from "./work-dir.ts";

/** /halt is answered first, and done this much later. */
const HALT_DELAY = seconds(1);
/** How long, with -halt, the end of a session waits for a halt that is under way. */
const HALT_GRACE = seconds(5);

export interface BuildletDeps {
  readonly clock: Clock;
  readonly env: Environment;
  readonly platform: NodeJS.Platform;
  readonly uid: number | undefined;
  /** The file of the running program: for its digest, and to start it again (api/pack-beside.ts). */
  readonly program: string | undefined;
  readonly log: (line: string) => void;
  /** Called once in listen mode, with the port. */
  readonly listening?: (port: number) => void;
}

/** Runs until the session is over, the machine is told to halt, or `signal` aborts. Rejects when it cannot begin. */
export async function runBuildlet(flags: BuildletFlags, deps: BuildletDeps, signal: AbortSignal): Promise<void> {
  const { log } = deps;
  const hostType = flags["reverse-type"];
  const reverse = hostType === "" ? undefined : prepareReverse(flags, deps);
  const listen = reverse ? undefined : listenSettings(flags.listen, deps.env, deps.platform);
  const ownUid = flags["own-user"] ? ownUser(deps.platform, deps.uid) : undefined;
  const workDir = openWorkDir({
    given: flags.workdir,
    hostType,
    platform: deps.platform,
    home: deps.env.HOME || homedir(),
    tmpDir: deps.env.TMPDIR ?? "",
  });
  const system = goSystem();
  const halted = new AbortController();
  const ends = AbortSignal.any([signal, halted.signal]);
  let leaving = false;
  await using server = new Connections({
    workDir,
    clock: deps.clock,
    platform: deps.platform,
    system,
    sshPort: system === "linux-amd64" ? 2200 : 22,
    password: listen?.password ?? "",
    log,
    halt: () => {
      leaving = true;
      void halt(flags, deps).then(() => halted.abort(new Error("halted")));
    },
    program: deps.program,
    ownUid,
    cacheFolder: join(deps.env.XDG_CACHE_HOME || join(deps.env.HOME || homedir(), ".cache"), "barnraiser"),
    agentFile: reverse?.agentFile,
    disableOutboundNetwork: outboundNetworkSwitch(flags.compatible && deps.platform === "linux", log),
  });
  if (listen) return await serveListener(server, listen, deps, ends);
  if (!reverse) return;
  await using health = await serveHealth(flags["health-addr"], log);
  void health;
  const why = await stayRegistered(
    {
      dial: reverse.dial,
      clock: deps.clock,
      accept: (socket) => server.accept(socket),
      log,
      random: Math.random,
      limit: flags.reconnect,
      leaving: () => leaving,
      lost: () => server.endSession(),
    },
    reverse.fields,
    ends,
  );
  log(`The session is over: ${why}`);
  if (flags.halt && !ends.aborted) await deps.clock.sleep(HALT_GRACE, ends).catch(() => {});
}

function prepareReverse(flags: BuildletFlags, deps: BuildletDeps) {
  const { coordinator, compatible } = flags;
  const hostType = flags["reverse-type"];
  const address = parseAddress(coordinator);
  const choice = keyInput(flags, address, { ...deps, hostType });
  // This must come before the key is read, which may delete its file.
  const ours = trustFor(address, flags["ca-file"], showsDevKey(choice));
  // The original sends and verifies the address with its port, except 443.
  const serverName = coordinator.replace(/:443$/, "");
  const trust = compatible ? { ...ours, verify: isProduction(coordinator), serverName } : ours;
  const key = readKey(choice);
  const name = REGISTRATION_HEADERS;
  const fields: HeaderField[] = [
    [name.hostname, machineName(flags.hostname, deps.env.HOSTNAME)],
    [name.key, key],
    [name.version, String(BUILDLET_VERSION)],
    [name.hostType, hostType],
    [name.revdialVersion, REVDIAL_VERSION],
  ];
  if (!compatible) {
    const resumes = flags.reconnect > 0;
    const info = {
      digest: programDigest(deps.program),
      platform: platformText(),
      instance: resumes ? randomBytes(16).toString("hex") : "",
      resume: resumes ? RESUME_VERSION : 0,
    };
    fields.push([name.agent, encodeAgentInfo(info)]);
  }
  const agentFile = (name: string, method: "GET" | "HEAD", signal: AbortSignal) =>
    fetched(address, trust, name, method, signal);
  return { dial: dialer(address, trust, deps.env), fields, agentFile };
}

/** Fetches a file that the coordinator serves to machines. */
async function fetched(
  address: Address,
  { verify, ca }: TlsTrust,
  name: string,
  method: "GET" | "HEAD",
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { httpGet } = await import("../dial/http-get.ts");
  const tls = { rejectUnauthorized: verify, ...(ca !== undefined && { ca }) };
  return await httpGet(`https://${formatAddress(address)}/agents/${name}`, { method, tls, signal });
}

async function halt(flags: BuildletFlags, deps: BuildletDeps): Promise<void> {
  await deps.clock.sleep(HALT_DELAY);
  deps.log("Halting, as the coordinator asked");
  const command = flags.reboot ? rebootCommand(deps.platform) : flags.halt ? haltCommand(deps.platform) : undefined;
  if (!command) return;
  await runPowerCommand(command, deps.log);
  await deps.clock.sleep(HALT_GRACE);
}

async function serveListener(
  server: Connections,
  settings: ListenSettings,
  deps: BuildletDeps,
  signal: AbortSignal,
): Promise<void> {
  const { tls } = settings;
  const keepAlive = { keepAlive: true, keepAliveInitialDelay: 180_000, noDelay: true };
  let listener: Server;
  if (tls) {
    const { createServer: createTlsServer } = await import("node:tls");
    listener = createTlsServer({ ...tls, ...keepAlive }, (socket) => server.accept(socket));
    listener.on("tlsClientError", () => {}); // a client that speaks no TLS
  } else {
    listener = createServer(keepAlive, (socket) => server.accept(socket));
  }
  await new Promise<void>((resolve, reject) => {
    listener.once("error", (error) => reject(new Error(`Cannot listen: ${messageOf(error)}`, { cause: error })));
    listener.listen({ port: settings.port, host: settings.host }, resolve);
  });
  const address = listener.address();
  const port = typeof address === "object" && address ? address.port : settings.port;
  deps.log(`Listening on ${settings.host ?? ""}:${port}`);
  deps.listening?.(port);
  await new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
  });
  listener.close();
}
