/**
 * Listens on a TCP address at less cost than `net.Server`, whose `listen` loads Node's cluster, child_process and dgram
 * modules: 3 MB of an idle agent, for an answer that is hardly ever asked for.
 *
 * It uses the handle that `net` itself makes (`net._createServerHandle`, not documented). Where Node has none, or one
 * of another form, a `net.Server` does the same.
 */
import * as net from "node:net";

export interface SmallListener extends AsyncDisposable {
  readonly port: number;
}

/** Listens. Rejects with the system's reason when the address is not available. */
export async function listenSmall(
  host: string | undefined,
  port: number,
  accept: (socket: net.Socket) => void,
): Promise<SmallListener> {
  // Names need a look-up, and IPv6 needs more care: a net.Server takes those.
  const address = host === undefined ? "0.0.0.0" : host;
  try {
    const handle = net.isIPv4(address) ? createHandle(address, port) : undefined;
    return handle ? listenOn(handle, accept) : await listenWithServer(host, port, accept);
  } catch (error) {
    if (!(error instanceof ListenError)) throw error;
    const { getSystemErrorName } = await import("node:util");
    throw new Error(`listen ${getSystemErrorName(error.status)} ${address}:${port}`);
  }
}

interface Handle {
  onconnection: (status: number, client: object | undefined) => void;
  listen(backlog: number): number;
  getsockname(out: { port?: number }): number;
  close(): void;
}

function createHandle(address: string, port: number): Handle | undefined {
  const create: unknown = Reflect.get(net, "_createServerHandle");
  if (typeof create !== "function") return undefined;
  const made: unknown = Reflect.apply(create, net, [address, port, 4]);
  if (typeof made === "number") throw new ListenError(made);
  return isHandle(made) ? made : undefined;
}

function isHandle(made: unknown): made is Handle {
  if (typeof made !== "object" || made === null) return false;
  return ["listen", "getsockname", "close"].every((name) => typeof Reflect.get(made, name) === "function");
}

function listenOn(handle: Handle, accept: (socket: net.Socket) => void): SmallListener {
  handle.onconnection = (status, client) => {
    if (status !== 0 || !client) return;
    accept(socketOf(client));
  };
  const status = handle.listen(16);
  const name: { port?: number } = {};
  handle.getsockname(name);
  if (status !== 0) {
    handle.close();
    throw new ListenError(status);
  }
  return { port: name.port ?? 0, [Symbol.asyncDispose]: async () => handle.close() };
}

/** A socket on a handle, as net.Server makes its own. */
function socketOf(client: object): net.Socket {
  return Reflect.construct(net.Socket, [{ handle: client, readable: true, writable: true }]);
}

class ListenError extends Error {
  readonly status: number;

  constructor(status: number) {
    super();
    this.status = status;
  }
}

async function listenWithServer(
  host: string | undefined,
  port: number,
  accept: (socket: net.Socket) => void,
): Promise<SmallListener> {
  const server = net.createServer(accept);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host }, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
