/** A shell of a simulated machine: nothing runs, and what is typed is printed. */
import type { Socket } from "node:net";
import { SHELL_UPGRADE } from "../src/wire/buildlet-api/shell.ts";
import { ShellLine } from "../src/wire/buildlet-api/shell-line.ts";

const SWITCHED = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${SHELL_UPGRADE}\r\nConnection: Upgrade\r\n\r\n`;

export function echoingShell(socket: Socket, rest: Uint8Array): void {
  socket.write(SWITCHED);
  if (rest.length > 0) socket.unshift(rest);
  const line = new ShellLine(socket);
  line.listen({
    frame(frame) {
      if (frame.kind === "open") line.send({ kind: "started", started: { terminal: "pty", note: "" } });
      else if (frame.kind === "data") line.send(frame);
    },
    closed() {},
  });
}
