import { expect, test } from "vitest";
import { olderName } from "./go-dist.ts";

test("olderName() gives the name of before Go 1.21, and leaves older names alone", () => {
  const names = [
    ["net/http", "go_test:net/http"], ["cmd/go", "go_test:cmd/go"], ["cmd/internal/testdir:0_10", "test:0_10"], ["cmd/api:check", "api"],
    ["cmd/internal/bootstrap_test:overlaydir", "reboot"], ["runtime/race:race", "race"], ["cmd/go:moved_goroot", "moved_goroot"],
    ["net:nolibgcc", "nolibgcc:net"], ["runtime:racebench", "go_test_bench:runtime"], ["runtime:cpu124", "runtime:cpu124"],
    ["go_test:net", "go_test:net"], ["test:1_5", "test:1_5"], ["api", "api"], ["reboot", "reboot"],
  ] as const; // biome-ignore format: pairs
  expect(names.map(([name]) => [name, olderName(name)])).toEqual(names);
});
