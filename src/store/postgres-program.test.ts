import { chmod, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { homeUnderRoot } from "./postgres-program.ts";
import { reachableFolder } from "./testing/reachable-folder.ts";

test("under root a cluster lies in the data folder if its user can reach it, and stays where it is", async () => {
  const folder = await reachableFolder(join(tmpdir(), "barnraiser-home-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [data, rootHome] = [join(folder, "data"), join(folder, "elsewhere")];
  await mkdir(data);
  const inPlace = join(data, "postgres");
  expect(await homeUnderRoot(data, rootHome)).toBe(inPlace);
  await chmod(data, 0o700);
  const elsewhere = await homeUnderRoot(data, rootHome);
  expect([dirname(elsewhere), basename(elsewhere).length]).toEqual([rootHome, 16]);

  await mkdir(join(elsewhere, "cluster"), { recursive: true });
  await chmod(data, 0o755);
  expect(await homeUnderRoot(data, rootHome)).toBe(elsewhere);

  await mkdir(join(inPlace, "cluster"), { recursive: true });
  await chmod(data, 0o700);
  expect(await homeUnderRoot(data, rootHome)).toBe(inPlace);
});
