import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { npmTests } from "./scripts/npm-tests.ts";

/** Tests of whole programs begin first: they wait more than they work, and nobody else would be at work while the last of them waits. */
class ProgramsFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isOfPrograms = ({ moduleId }: TestSpecification) => Number(moduleId.includes("/e2e/"));
    return (await super.sort(files)).toSorted((a, b) => isOfPrograms(b) - isOfPrograms(a));
  }
}

export default defineConfig({
  // Configurations import the package by name; tests run from source, not from what was built.
  resolve: { alias: { barnraiser: fileURLToPath(new URL("./src/config/farm-config.ts", import.meta.url)) } },
  define: npmTests(),
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  test: {
    globalSetup: ["src/store/testing/global-setup.ts"],
    setupFiles: ["src/store/testing/patient-waits.ts"],
    include: ["src/**/*.test.{ts,tsx}", "e2e/**/*.test.ts", "bench/**/*.test.ts"],
    // A limit is for what hangs: a computer that is busy with other things takes several times as long as one that is not.
    testTimeout: 90_000,
    hookTimeout: 90_000,
    sequence: { sequencer: ProgramsFirst },
    pool: "forks",
    maxWorkers: 3,
  },
});
