/** The folder for the databases of tests. */
import { readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reachableFolder } from "./reachable-folder.ts";

const MEMORY = "/dev/shm";
const ROOM_BYTES = 2 * 1024 ** 3;

/**
 * A folder in memory if there is room (a container may have 64 MiB), otherwise in the temporary folder. Each database
 * that is cloned for a test has some three hundred files. Making and deleting them on a disk took as much time as
 * everything that tests then do with them.
 *
 * The process that calls this must remove the folder. Folders that killed processes have left are removed first, since
 * nothing else would ever free that memory.
 */
export async function memoryFolder(kind: "test" | "shared"): Promise<string> {
  const roomy = await statfs(MEMORY).then(
    ({ bavail, bsize }) => bavail * bsize >= ROOM_BYTES,
    () => false,
  );
  if (!roomy) return reachableFolder(join(tmpdir(), `barnraiser-${kind}-`));
  for (const name of await readdir(MEMORY)) {
    const [, pid] = /^barnraiser-(?:test|shared)-(\d+)-/.exec(name) ?? [];
    if (pid === undefined || lives(Number(pid))) continue;
    await rm(join(MEMORY, name), { recursive: true, force: true }).catch(() => {}); // another user removes their own
  }
  return reachableFolder(join(MEMORY, `barnraiser-${kind}-${process.pid}-`));
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // a process of another user lives, too
  }
}
