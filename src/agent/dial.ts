/**
 * Opens TLS connections to the coordinator, each the same way: TCP directly (10 s), or, only when that fails, through the
 * proxy that the environment names; then TLS (30 s since the TCP connection), with no ALPN.
 */
import { readFileSync } from "node:fs";
import { connect, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, createSecureContext, type TLSSocket } from "node:tls";
import { messageOf } from "../farm/errors.ts";
import { encodeRequestHead, responseHeadReader } from "../wire/revdial/http-head.ts";
import { type Address, formatAddress, isLoopback } from "./address.ts";
import { errnoOf } from "./api/api-error.ts";
import { type Environment, proxyFor } from "./proxy.ts";

const DIAL_LIMIT_MS = 10_000;
const TLS_LIMIT_MS = 30_000;
const KEEP_ALIVE_MS = 15_000;

export interface TlsTrust {
  /** Off only towards this machine while no key but the development key is shown, or where the original's rule says so. */
  readonly verify: boolean;
  /** PEM of the certificates to trust instead of the built-in ones. */
  readonly ca: string | undefined;
  /** `-ca-file`, for what is said about certificates; undefined where that flag has no say. */
  readonly caFile?: string;
  /** Server name to send and to verify, when it is not the host of the address. */
  readonly serverName?: string;
}

/**
 * Whom to trust: the CA file if one is named, else the usual authorities. Who shows nothing but the development key, which is
 * no secret, may talk to anybody on this machine: there the certificate of a coordinator that is being tried is nobody's.
 */
export function trustFor(address: Address, caFile: string, devKey: boolean): TlsTrust {
  if (caFile === "") return { verify: !(devKey && isLoopback(address.host)), ca: undefined, caFile };
  let ca: string;
  try {
    ca = readFileSync(caFile, "utf8");
  } catch (error) {
    throw new Error(`Cannot read -ca-file ${JSON.stringify(caFile)}: ${messageOf(error)}`, { cause: error });
  }
  if (!ca.includes("-----BEGIN CERTIFICATE-----")) {
    throw new Error(`Cannot use -ca-file ${JSON.stringify(caFile)}: want certificates in PEM form`);
  }
  return { verify: true, ca, caFile };
}

const CERTIFICATE_CODES =
  /^(CERT_|UNABLE_TO_(GET_ISSUER|VERIFY)|(DEPTH_ZERO_)?SELF_SIGNED_CERT|INVALID_CA|ERR_TLS_CERT)/;

/** `error`, with what to give when it is about a certificate. */
export function explainCertificate(error: unknown, { caFile }: TlsTrust): unknown {
  const code = errnoOf(error) || (error instanceof Error ? errnoOf(error.cause) : "");
  if (caFile === undefined || !CERTIFICATE_CODES.test(code)) return error;
  let advice = "give the farm's CA certificate with -ca-file";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") advice = "give -coordinator a name that the certificate is for";
  else if (caFile !== "") advice = `no certificate in -ca-file ${JSON.stringify(caFile)} vouches for it`;
  return new Error(`Cannot trust the coordinator's certificate: ${messageOf(error)}; ${advice}`, { cause: error });
}

export type Dial = (signal: AbortSignal) => Promise<TLSSocket>;

/** A function that dials `address`; what all connections share is made once. */
export function dialer(address: Address, trust: TlsTrust, env: Environment): Dial {
  const host = trust.serverName ?? address.host;
  const options: ConnectionOptions = {
    rejectUnauthorized: trust.verify,
    // The built-in list of authorities takes megabytes: not loaded where it is not used.
    ...(trust.verify && trust.ca === undefined
      ? {}
      : { secureContext: createSecureContext(trust.ca === undefined ? { ca: [] } : { ca: trust.ca }) }),
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
  };
  return async (signal) => {
    const tcp = await dialTcp(address, env, signal);
    try {
      return await startTls(tcp, options, signal);
    } catch (error) {
      throw explainCertificate(error, trust);
    }
  };
}

/** Direct, else by proxy. When both fail the error tells of both. */
export async function dialTcp(address: Address, env: Environment, signal: AbortSignal): Promise<Socket> {
  try {
    return await connectTcp(address, signal);
  } catch (error) {
    const proxy = signal.aborted ? undefined : proxyFor("https", address, env);
    if (!proxy) throw new Error(`Cannot dial ${formatAddress(address)}: ${messageOf(error)}`, { cause: error });
    const socket = await connectTcp(proxy, signal).catch((reason) => {
      throw new Error(
        `Cannot dial ${formatAddress(address)}: ${messageOf(error)}; nor the proxy ${formatAddress(proxy)}: ${messageOf(reason)}`,
        { cause: reason },
      );
    });
    try {
      await openTunnel(socket, address, proxy.host, proxy.credentials, signal);
      return socket;
    } catch (reason) {
      socket.destroy();
      throw reason;
    }
  }
}

function connectTcp({ host, port }: Address, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
    const end = settle(socket, DIAL_LIMIT_MS, "no answer in 10 s", signal, reject);
    socket.once("connect", () => {
      end();
      resolve(socket);
    });
  });
}

function openTunnel(
  socket: Socket,
  target: Address,
  proxyHost: string,
  credentials: string,
  signal: AbortSignal,
): Promise<void> {
  const authorization =
    credentials === ""
      ? []
      : [["Proxy-Authorization", `Basic ${Buffer.from(credentials).toString("base64")}`] as const];
  socket.write(encodeRequestHead("CONNECT", formatAddress(target), [["Host", proxyHost], ...authorization]));
  const reader = responseHeadReader();
  return new Promise((resolve, reject) => {
    const end = settle(socket, DIAL_LIMIT_MS, "the proxy did not answer in 10 s", signal, reject);
    const data = (chunk: Buffer) => {
      try {
        const read = reader.push(chunk);
        if (!read) return;
        socket.off("data", data);
        socket.pause();
        end();
        if (read.head.status !== 200) throw new Error(`the proxy answered ${read.head.status} ${read.head.reason}`);
        if (read.rest.length > 0) throw new Error("the proxy sent bytes before it was asked");
        resolve();
      } catch (error) {
        reject(
          new Error(`Cannot reach ${formatAddress(target)} through the proxy: ${messageOf(error)}`, { cause: error }),
        );
      }
    };
    socket.on("data", data);
  });
}

function startTls(tcp: Socket, options: ConnectionOptions, signal: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ ...options, socket: tcp });
    const end = settle(socket, TLS_LIMIT_MS, "TLS was not agreed on in 30 s", signal, reject);
    socket.once("secureConnect", () => {
      end();
      resolve(socket);
    });
  });
}

/** Destroys `socket` and rejects on error, close, abort or when the time is over; the function given ends that. */
function settle(
  socket: Socket,
  limitMs: number,
  late: string,
  signal: AbortSignal,
  reject: (reason: unknown) => void,
): () => void {
  const fail = (reason: unknown) => {
    end();
    socket.on("error", () => {});
    socket.destroy();
    reject(reason);
  };
  const closed = () => fail(new Error("the connection was closed"));
  const aborted = () => fail(signal.reason);
  // The kernel's time, not the farm's clock: this is about packets.
  const timer = setTimeout(() => fail(new Error(late)), limitMs);
  const end = () => {
    clearTimeout(timer);
    socket.off("error", fail);
    socket.off("close", closed);
    signal.removeEventListener("abort", aborted);
  };
  socket.once("error", fail);
  socket.once("close", closed);
  signal.addEventListener("abort", aborted, { once: true });
  return end;
}
