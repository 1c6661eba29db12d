import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openWorkDir, removeTree } from "./work-dir.ts";

test("a -workdir that is the owner's home, or holds it, is refused: it would be emptied", () => {
  const folder = mkdtempSync(join(tmpdir(), "work-dir-"));
  const home = join(folder, "home/river");
  mkdirSync(join(home, "builds"), { recursive: true });
  mkdirSync(join(folder, "home/riverboard"));
  symlinkSync(home, join(folder, "link"));
  const open = (given: string) =>
    openWorkDir({ given, hostType: "host-x", platform: "linux", home, tmpDir: join(folder, "nowhere") });
  try {
    for (const given of [home, join(home, ".."), join(folder, "link"), "/"]) {
      expect(() => open(given), given).toThrow("the farm empties the work dir before each build");
    }
    expect(open(join(home, "builds"))).toBe(join(home, "builds"));
    expect(open(join(folder, "home/riverboard"))).toBe(join(folder, "home/riverboard"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("removeTree() deletes few files and many, and of a link only the link", async () => {
  const folder = mkdtempSync(join(tmpdir(), "work-dir-"));
  const kept = join(folder, "kept");
  mkdirSync(kept);
  try {
    for (const files of [0, 3, 200]) {
      const tree = join(folder, `${files}`);
      mkdirSync(join(tree, "a/b"), { recursive: true });
      symlinkSync(kept, join(tree, "a/link"));
      for (let i = 0; i < files; i++) writeFileSync(join(tree, "a", `${i}`), "");
      await removeTree(tree);
      expect([existsSync(tree), existsSync(kept)]).toEqual([false, true]);
    }
    await removeTree(join(folder, "none"));
    writeFileSync(join(folder, "file"), "");
    await removeTree(join(folder, "file/below"));
    await removeTree(join(folder, "file"));
    symlinkSync(kept, join(folder, "link"));
    await removeTree(join(folder, "link"));
    expect([existsSync(join(folder, "file")), existsSync(join(folder, "link")), existsSync(kept)]).toEqual([
      false,
      false,
      true,
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
