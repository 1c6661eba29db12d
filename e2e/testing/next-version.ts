/**
 * Our programs as they might be in the next version: they say another version, bring one more migration, which touches every table that is
 * used much, and serve another agent.
 */
import { appendFile, cp, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "./process.ts";

export const NEXT_VERSION = "999.0.0";

const TABLES = ["coordinator", "machine", "session", "lease", "build", "attempt", "step", "log", "commit"];

/** Makes them below `folder`; resolves with where they are. */
export async function nextVersion(folder: string): Promise<string> {
  const dist = join(folder, "dist");
  await mkdir(folder);
  await cp(join(root, "dist"), dist, { recursive: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module", version: NEXT_VERSION }));
  const last = (await readdir(join(dist, "sql"))).toSorted().at(-1) ?? "";
  const number = String(Number.parseInt(last, 10) + 1).padStart(3, "0");
  const columns = TABLES.map((table) => `alter table ${table} add column of_the_next_version text default 'none';\n`);
  await writeFile(join(dist, "sql", `${number}.do.next.sql`), columns.join(""));
  await appendFile(join(dist, "agents", "buildlet.mjs"), "\n// of the next version\n");
  return dist;
}
