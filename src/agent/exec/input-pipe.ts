/**
 * The pipe that a command reads its input from, on Linux.
 *
 * There, whoever opens `/dev/stdin` opens anew what it stands for, and the sockets that Node gives to children cannot be; elsewhere it is the
 * descriptor itself. A FIFO would not do: who opens one whose writer has gone waits for another without end. Node has no call for a pipe, but a shell
 * makes one, and /proc lets us open both of its ends. The shell ends then, so that ours are the only ones: the command hears of the end when we close ours,
 * and we when it has closed its own.
 */
import { closeSync, constants, openSync } from "node:fs";

/** Says which process holds a pipe as its descriptor 5, as long as the input of all this has no end. */
const HOLD = "exec 4<&0; : | sh -c 'exec 5<&0; echo $$; read _ <&4'";
const HOLD_LIMIT_MS = 10_000;

export interface InputPipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** A pipe that the caller owns: both ends are to be closed. Undefined: a stream of the child's own has to do. */
export async function makeInputPipe(platform: NodeJS.Platform): Promise<InputPipe | undefined> {
  if (platform !== "linux") return undefined;
  const { spawn } = await import("node:child_process");
  const holder = spawn("sh", ["-c", HOLD], { stdio: ["pipe", "pipe", "ignore"], timeout: HOLD_LIMIT_MS });
  holder.once("error", () => {}); // there is no shell, and it says nothing
  holder.once("exit", () => holder.stdout.destroy()); // its own child may have it, too
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
