/** Folders for the databases that tests and benches throw away. */
import { chmod, mkdtemp } from "node:fs/promises";

/**
 * Makes a folder whose name begins with `prefix`, which every user may enter.
 *
 * Under root, PostgreSQL runs as another user. The cluster of a data folder that this user cannot reach lies elsewhere
 * (postgres-program.ts), and would stay there when the data folder is removed.
 */
export async function reachableFolder(prefix: string): Promise<string> {
  const folder = await mkdtemp(prefix);
  await chmod(folder, 0o755);
  return folder;
}
