import { readdirSync, readFileSync } from "node:fs";

/** Living processes whose command line holds `word`. */
export function running(word: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return (
        readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(word) &&
        !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"))
      );
    } catch {
      return false;
    }
  });
}
