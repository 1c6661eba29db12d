/**
 * A snapshot of a folder in which tests already run: packed by a process of its own, this same program with PACK_ARGUMENT, which the
 * system gives a tenth of what a test gets while there are too few processors; with less, helpers would wait for it for ever. Neither a
 * test nor the agent waits for it.
 *
 * The process reads its order (JSON) from stdin and writes the archive to stdout; it is killed when nobody wants the rest.
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

/** The archive, packed by `program`; by this process when there is none. Throws where something cannot be read. */
export async function* packBeside(program: string | undefined, order: PackOrder): AsyncGenerator<Buffer> {
  if (program === undefined) {
    yield* packed(order);
    return;
  }
  const [{ spawn }, { setPriority, constants }] = await Promise.all([import("node:child_process"), import("node:os")]);
  const child = spawn(process.execPath, [program, PACK_ARGUMENT], { windowsHide: true, stdio: "pipe" });
  try {
    const ended = exitOf(child);
    ended.catch(() => {}); // told below, after what came before it
    try {
      if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
    } catch {
      // It has ended already, or the system allows no such thing: slower tests are better than no snapshot.
    }
    child.stdin.on("error", () => {}); // it ended before it read its order; why is told by its end
    child.stdin.end(JSON.stringify(order));
    for await (const chunk of child.stdout) yield chunk;
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

/** What the process does. Resolves with its exit code. */
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

/** Resolves when it ended well; rejects with what it said last. */
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
