/** A connection to a port of this machine, for `ssh -L`. Other computers are refused: they are the owner's network. */
import { connect, type Socket } from "node:net";
import { errnoOf, messageOf } from "../../farm/errors.ts";
import { seconds } from "../../farm/ids.ts";
import { loopbackAddresses } from "../../wire/buildlet-api/shell.ts";
import type { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { DONE, type Opened } from "./opened.ts";

const DIAL_LIMIT = seconds(10);

export async function dialLoopback(host: string, port: number, line: ShellLine): Promise<Opened> {
  const addresses = loopbackAddresses(host);
  if (!addresses)
    throw new Error(`Cannot forward to ${JSON.stringify(host.slice(0, 100))}: only to 127.0.0.1, ::1 and localhost`);
  const socket = await firstOf(addresses, port);
  line.send({ kind: "started", started: { terminal: null, note: "" } });
  socket.on("data", (bytes: Buffer) => {
    if (line.send({ kind: "data", bytes })) return;
    socket.pause();
    void line.drained().then(() => socket.resume());
  });
  socket.once("end", () => line.send({ kind: "eof" }));
  socket.on("error", () => {}); // a close follows
  socket.once("close", () => {
    line.send({ kind: "exit", exit: DONE });
    line.end();
  });
  return {
    take: (frame) => {
      if (frame.kind === "eof") return void socket.end();
      if (frame.kind !== "data") return line.destroy();
      if (socket.write(frame.bytes)) return;
      line.pause();
      const go = () => line.resume();
      socket.once("drain", go).once("close", go);
    },
    kill: async () => void socket.destroy(),
  };
}

/** The first connection that succeeds. Throws the reason when none does. */
async function firstOf(addresses: readonly string[], port: number): Promise<Socket> {
  let why = "";
  for (const address of addresses) {
    try {
      return await dialed(address, port);
    } catch (error) {
      why = errnoOf(error) || messageOf(error);
    }
  }
  throw new Error(`Cannot connect to port ${port} of the machine: ${why}`);
}

function dialed(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true, timeout: DIAL_LIMIT });
    socket.once("connect", () => {
      socket.setTimeout(0);
      resolve(socket);
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer")));
    socket.once("error", reject);
  });
}
