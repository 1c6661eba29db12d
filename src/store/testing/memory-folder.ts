/** Where the databases of tests are kept. */
import { mkdtemp, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MEMORY = "/dev/shm";
const ROOM_BYTES = 2 * 1024 ** 3;

/**
 * A folder in memory where there is room (a container may have 64 MiB), else in the temporary folder. Each database that is cloned for a test is some
 * three hundred files: making and deleting these on a disk took as much time as everything that tests then do with them.
 */
export async function memoryFolder(prefix: string): Promise<string> {
  const roomy = await statfs(MEMORY).then(
    ({ bavail, bsize }) => bavail * bsize >= ROOM_BYTES,
    () => false,
  );
  return mkdtemp(join(roomy ? MEMORY : tmpdir(), prefix));
}
