/** The sending process of tls-pipe.ts: connects, says so over IPC, then sends what the command prints. */
import { spawn } from "node:child_process";
import { pipeline } from "node:stream/promises";
import { connect } from "node:tls";
import type { PipeOrder } from "./tls-pipe.ts";

process.once("message", ({ port, ca, command }: PipeOrder) => {
  const socket = connect({ host: "127.0.0.1", port, ca, servername: "localhost" });
  socket.once("secureConnect", async () => {
    process.send?.("connected");
    const child = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "inherit"] });
    await pipeline(child.stdout, socket);
    process.disconnect();
  });
});
