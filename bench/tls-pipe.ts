/**
 * The bare TLS pipe that ratios are taken against: a command's output through one TLS connection between two processes, with
 * nothing else done to it.
 *
 * Both ends are Node with default streams; the receiving one counts, and forgets or hands on. The certificate is the farm's own kind.
 */
import { fork, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { own } from "./program.ts";

export interface PipeOrder {
  readonly port: number;
  readonly ca: string;
  /** A shell command; what it prints is sent. */
  readonly command: string;
}

export interface PipeOptions {
  readonly keyFile: string;
  readonly certFile: string;
  readonly caFile: string;
  readonly command: string;
  /** A shell command that gets at the other end what was sent; the time is then until it has ended. */
  readonly into?: string;
  readonly signal: AbortSignal;
}

export interface Piped {
  readonly bytes: number;
  readonly ms: number;
}

/** Sends what `command` prints; the time is from starting the command until its last byte has arrived. */
export async function pipeOverTls({ keyFile, certFile, caFile, command, into, signal }: PipeOptions): Promise<Piped> {
  const [key, cert, ca] = await Promise.all([readFile(keyFile), readFile(certFile), readFile(caFile, "utf8")]);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const server = createServer({ key, cert }, (socket) => {
    let bytes = 0;
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    socket.once("error", reject);
    if (into === undefined) {
      socket.once("end", () => resolve(bytes));
      return;
    }
    const taker = spawn("sh", ["-c", into], { stdio: ["pipe", "ignore", "inherit"] });
    own(taker);
    taker.once("exit", (code) => {
      if (code === 0) resolve(bytes);
      else reject(new Error(`What takes the bytes of a TLS pipe ended with ${code}`));
    });
    socket.pipe(taker.stdin);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const sender = fork(fileURLToPath(new URL("./tls-pipe-sender.ts", import.meta.url)), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  own(sender);
  const stop = () => {
    sender.kill("SIGKILL");
    reject(signal.reason);
  };
  signal.addEventListener("abort", stop, { once: true });
  try {
    // It starts the command only once it is connected.
    const started = new Promise<number>((go) => sender.once("message", () => go(performance.now())));
    sender.send({ port, ca, command } satisfies PipeOrder);
    sender.once("exit", (code) => {
      if (code !== 0) reject(new Error(`The sender of a TLS pipe ended with ${code}`));
    });
    const bytes = await promise;
    return { bytes, ms: performance.now() - (await started) };
  } finally {
    signal.removeEventListener("abort", stop);
    sender.kill("SIGKILL");
    server.close();
  }
}
