import { spawnSync } from "node:child_process";
import { access, mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { memoryFolder } from "./memory-folder.ts";

test("what a process that was killed has left in memory goes, and what others use stays", async () => {
  const mine = await memoryFolder("test");
  onTestFinished(() => rm(mine, { recursive: true, force: true }));
  const beside = (pid: number) => join(dirname(mine), `barnraiser-test-${pid}-left`);
  const { pid: dead } = spawnSync("true");
  const [left, used] = [beside(dead), beside(process.ppid)];
  onTestFinished(() => rm(used, { recursive: true, force: true }));
  for (const folder of [left, used]) await mkdir(folder);
  await rm(await memoryFolder("test"), { recursive: true });
  await expect(access(used)).resolves.toBeUndefined();
  const there = access(left).then(
    () => true,
    () => false,
  );
  const inMemory = dirname(mine) === "/dev/shm";
  await rm(left, { recursive: true, force: true });
  expect(await there).toBe(!inMemory); // other processes clean up a temporary folder
});

test.runIf(process.getuid?.() === 0)("a folder that another user left keeps nobody from making one", async () => {
  const { pid: dead } = spawnSync("true");
  const left = join("/dev/shm", `barnraiser-test-${dead}-left`);
  await mkdir(left, { mode: 0o700 });
  onTestFinished(() => rm(left, { recursive: true, force: true }));
  const module = new URL("memory-folder.ts", import.meta.url).href;
  const script = `const { memoryFolder } = await import("${module}"); (await import("node:fs")).rmdirSync(await memoryFolder("test"));`;
  const nobody = { uid: 65_534, gid: 65_534 };
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", script], { ...nobody, encoding: "utf8" });
  expect([child.status, child.stderr]).toEqual([0, ""]);
});
