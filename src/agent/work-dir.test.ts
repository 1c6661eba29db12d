import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openWorkDir } from "./work-dir.ts";

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
