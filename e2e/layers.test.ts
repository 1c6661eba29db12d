/** The walls between rooms hold: a planted violation is a compile error. A gate that looked at nothing would pass too. */
import { execFile } from "node:child_process";
import { cp, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { root } from "./testing/process.ts";

const run = promisify(execFile);

test("an import against the order of rooms, and a timer in a pure room, do not compile", async () => {
  const copy = await mkdtemp(join(tmpdir(), "barnraiser-layers-"));
  onTestFinished(() => rm(copy, { recursive: true, force: true }));
  await cp(join(root, "src"), join(copy, "src"), { recursive: true });
  await cp(join(root, "tsconfig.base.json"), join(copy, "tsconfig.base.json"));
  await cp(join(root, "package.json"), join(copy, "package.json"));
  await symlink(join(root, "node_modules"), join(copy, "node_modules"));
  const compile = async (room: string) => {
    const tsc = join(root, "node_modules/.bin/tsc");
    return run(tsc, ["-b", join(copy, "src", room)], { cwd: copy }).then(
      () => "",
      (error: { stdout: string }) => error.stdout,
    );
  };
  expect(await compile("store")).toBe("");
  await writeFile(join(copy, "src/farm/planted.ts"), 'export { at } from "../store/sql.ts";\n');
  expect(await compile("farm")).toContain("store/sql.ts");
  await writeFile(join(copy, "src/farm/planted.ts"), "setTimeout(() => {}, 1);\n");
  expect(await compile("farm")).toContain("Cannot find name 'setTimeout'");
});
