/** Deletes the paths of POST /removeall, which were checked. Missing ones are fine. Nobody else may write meanwhile. */
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { removeTree } from "../work-dir.ts";
import { ApiError, fsReason } from "./api-error.ts";

export async function removeAll(workDir: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const target = join(workDir, path);
    try {
      await removeTree(target);
    } catch (error) {
      // A work dir that is a mount point cannot be deleted. It is enough that it is empty.
      const cleared = relative(workDir, target) === "" && (await isEmptyAfterClearing(workDir).catch(() => false));
      if (!cleared) {
        throw new ApiError(500, `Cannot delete ${JSON.stringify(path)}: ${fsReason(error)}`, { cause: error });
      }
    }
  }
}

async function isEmptyAfterClearing(dir: string): Promise<boolean> {
  for (const name of await readdir(dir)) await removeTree(join(dir, name));
  return (await readdir(dir)).length === 0;
}
