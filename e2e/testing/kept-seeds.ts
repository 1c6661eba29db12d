/** Seeds of a test that failed once, in a file of its own: they run every time from then on. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./process.ts";

const FILE = "e2e/testdata/chaos-seeds.json";

export function keptSeeds(): number[] {
  return JSON.parse(readFileSync(join(root, FILE), "utf8"));
}

/** In the order of numbers, each once. Returns what became of it, for people. */
export function keepSeed(seed: number): string {
  try {
    const seeds = [...new Set([...keptSeeds(), seed])].toSorted((a, b) => a - b);
    writeFileSync(join(root, FILE), `[${seeds.join(", ")}]\n`);
    return `kept in ${FILE}`;
  } catch (error) {
    return `to be kept in ${FILE}, which could not be written: ${error}`;
  }
}
