/**
 * A snapshot of a folder in which tests already run. A process of its own packs it: this same program with
 * PACK_ARGUMENT. Neither a test nor the agent waits for it. While there are too few processors, the system gives it a
 * tenth of what a test gets; with less, helpers would wait for it for ever.
 *
 * The process reads its order (JSON) from stdin and writes the archive to stdout. It is killed when its reader leaves.
 */
import type { ChildProcess } from "node:child_process";
import { messageOf } from "../../farm/errors.ts";
import { pack } from "./pack.ts";
import { PACK_ARGUMENT } from "./pack-argument.ts";

export interface PackOrder {
  readonly dir: string;
  /** Lines of a .gitignore. */
  readonly exclude: readonly string[];
}

/** The archive, packed by `program`, or by this process when there is none. Throws for what cannot be read. */
export async function* packBeside(program: string | undefined, order: PackOrder): AsyncGenerator<Buffer> {
  if (program === undefined) {
    yield* packed(order);
    return;
  }
  const [{ spawn }, { setPriority, constants }] = await Promise.all([import("node:child_process"), import("node:os")]);
  const child = spawn(process.execPath, [program, PACK_ARGUMENT], { windowsHide: true, stdio: "pipe" });
  try {
    const ended = exitOf(child);
    ended.catch(() => {}); // thrown below, after the output that came before it
    try {
      if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
    } catch {
      // It has ended already, or the system does not allow it: slower tests are better than no snapshot.
    }
    child.stdin.on("error", () => {}); // it ended before it read its order; its end says why
    child.stdin.end(JSON.stringify(order));
    for await (const chunk of child.stdout) yield chunk;
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

/** The work of the packing process. Resolves with its exit code. */
export async function packForParent(): Promise<number> {
  try {
    const { text } = await import("node:stream/consumers");
    const order: PackOrder = JSON.parse(await text(process.stdin));
    for await (const piece of packed(order)) {
      if (!process.stdout.write(piece)) await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
    await new Promise<void>((resolve) => process.stdout.end(resolve));
    return 0;
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    return 1;
  }
}

async function* packed({ dir, exclude }: PackOrder): AsyncGenerator<Buffer> {
  const { excluder } = await import("../../wire/tar/exclude.ts");
  yield* pack(dir, { leaveOut: excluder(exclude), mayVanish: true });
}

/** Resolves when the process ended well; rejects with what it printed last. */
function exitOf(child: ChildProcess): Promise<void> {
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-2000);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(said.trim() || `Cannot pack: the packing process ended with ${signal ?? code}`));
    });
  });
}
