import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
export default defineConfig({
  // Configurations import the package by name; tests run from source, not from what was built.
  resolve: { alias: { barnraiser: fileURLToPath(new URL("./src/config/farm-config.ts", import.meta.url)) } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  test: {
    globalSetup: ["src/store/testing/global-setup.ts"],
    setupFiles: ["src/store/testing/patient-waits.ts"],
    include: ["src/**/*.test.{ts,tsx}", "e2e/**/*.test.ts", "bench/**/*.test.ts"],
    // A limit is for what hangs: a computer that is busy with other things takes several times as long as one that is not.
    testTimeout: 90_000,
    hookTimeout: 90_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
