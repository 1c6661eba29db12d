/**
 * How programs on other people's computers reach a coordinator: TCP directly (10 s), or, only when that fails, through the proxy that the
 * environment names; then TLS (30 s since the TCP connection).
 */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { errnoOf, messageOf } from "../farm/errors.ts";
import { encodeRequestHead, responseHeadReader } from "../wire/revdial/http-head.ts";
import { type Address, formatAddress } from "./address.ts";
import { type Environment, proxyFor } from "./proxy.ts";

const DIAL_LIMIT_MS = 10_000;
const TLS_LIMIT_MS = 30_000;
const KEEP_ALIVE_MS = 15_000;

const CERTIFICATE_CODES =
  /^(CERT_|UNABLE_TO_(GET_ISSUER|VERIFY)|(DEPTH_ZERO_)?SELF_SIGNED_CERT|INVALID_CA|ERR_TLS_CERT)/;

/** The code of an error that is about the other side's certificate, undefined for any other. */
export function certificateTrouble(error: unknown): string | undefined {
  const code = errnoOf(error) || (error instanceof Error ? errnoOf(error.cause) : "");
  return CERTIFICATE_CODES.test(code) ? code : undefined;
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

/** TLS over a connected socket, which is destroyed when that fails. */
export function startTls(tcp: Socket, options: ConnectionOptions, signal: AbortSignal): Promise<TLSSocket> {
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
