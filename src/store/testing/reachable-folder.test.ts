import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { findPostgres } from "../postgres-program.ts";
import { memoryFolder } from "./memory-folder.ts";
import { reachableFolder } from "./reachable-folder.ts";

test("the database of a folder for a test lies in it, so that it goes with the folder", async () => {
  const folders = [await reachableFolder(join(tmpdir(), "barnraiser-reachable-")), await memoryFolder("test")];
  onTestFinished(async () => void (await Promise.all(folders.map((folder) => rm(folder, { recursive: true })))));
  const { home } = await findPostgres();
  for (const folder of folders) expect(await home(folder)).toBe(join(folder, "postgres"));
});
