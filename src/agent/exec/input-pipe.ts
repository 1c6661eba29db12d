/**
 * The pipe that a command reads its input from, on Linux.
 *
 * There, a program that opens `/dev/stdin` opens the file behind it once more, and the sockets that Node gives to
 * children cannot be opened. (Elsewhere it gets the descriptor itself.) A FIFO would not do: opening one whose writer
 * has gone waits for another writer without end. Node has no call for a pipe, but a shell makes one, and /proc lets us
 * open both of its ends. The shell then ends, so that only our ends are left: the command sees the end of its input
 * when we close ours, and we see it when the command closes its own.
 */
import { closeSync, constants, openSync } from "node:fs";

/** Prints which process holds a pipe as its descriptor 5. It does so until the script's input ends. */
const HOLD = "exec 4<&0; : | sh -c 'exec 5<&0; echo $$; read _ <&4'";
const HOLD_LIMIT_MS = 10_000;

export interface InputPipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** A pipe whose two ends the caller must close. Undefined: the child needs a stream of its own instead. */
export async function makeInputPipe(platform: NodeJS.Platform): Promise<InputPipe | undefined> {
  if (platform !== "linux") return undefined;
  const { spawn } = await import("node:child_process");
  const holder = spawn("sh", ["-c", HOLD], { stdio: ["pipe", "pipe", "ignore"], timeout: HOLD_LIMIT_MS });
  holder.once("error", () => {}); // without a shell nothing is printed
  holder.once("exit", () => holder.stdout.destroy()); // its child may hold it open, too
  try {
    let pid = "";
    for await (const chunk of holder.stdout) {
      pid += chunk;
      if (pid.endsWith("\n")) break;
    }
    return openEnds(`/proc/${pid.trim()}/fd/5`);
  } catch {
    return undefined; // there is no /proc
  } finally {
    holder.stdin.destroy();
  }
}

export function closeInput({ readFd, writeFd }: InputPipe): void {
  closeSync(readFd);
  closeSync(writeFd);
}

function openEnds(path: string): InputPipe {
  const readFd = openSync(path, constants.O_RDONLY);
  try {
    return { readFd, writeFd: openSync(path, constants.O_WRONLY) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  }
}
