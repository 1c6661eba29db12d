import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { until } from "../../farm/testing/until.ts";
import { systemClock } from "../../store/system-clock.ts";
import { quiet } from "../../store/testing/database.ts";
import { localEnvironment } from "./local-environment.ts";
import { LocalMachine } from "./local-machine.ts";

test("localEnvironment() passes what programs need, and no name that it does not know", () => {
  const secrets = {
    DATABASE_URL: "postgres://u:p@h/d",
    GITHUB_TOKEN: "t",
    npm_config__authToken: "t",
    PGPASSWORD: "p",
  };
  const fine = { PATH: "/bin", LC_ALL: "C", https_proxy: "http://p:1", npm_config_registry: "https://r" };
  expect(localEnvironment({ ...secrets, ...fine, SystemRoot: "x", NONE: undefined }, "linux")).toEqual(fine);
  expect(localEnvironment({ Path: "C:\\bin", SYSTEMROOT: "C:\\Windows", ...secrets }, "win32")).toEqual({
    Path: "C:\\bin",
    SYSTEMROOT: "C:\\Windows",
  });
});

test("the local machine's program gets no secret of the coordinator, and its key anew at each start", async () => {
  const folder = await mkdtemp(join(tmpdir(), "local-machine-"));
  const stage0 = join(folder, "stage0.mjs");
  await writeFile(
    stage0,
    `import { appendFileSync, readFileSync, rmSync } from "node:fs";
     const key = readFileSync(process.env.GO_BUILD_KEY_PATH, "utf8");
     if (process.env.GO_BUILD_KEY_DELETE_AFTER_READ === "1") rmSync(process.env.GO_BUILD_KEY_PATH);
     appendFileSync("starts", JSON.stringify({ key, names: Object.keys(process.env) }) + "\\n");`,
  );
  vi.stubEnv("DATABASE_URL", "postgres://user:secret@db/farm");
  vi.stubEnv("SOME_TOKEN", "secret");
  try {
    await using machine = new LocalMachine({
      name: "here",
      hostType: "host-here",
      coordinator: "localhost:1",
      key: "0123456789abcdef",
      caFile: "ca.pem",
      stage0,
      folder,
      clock: systemClock,
      log: quiet,
    });
    void machine;
    const starts = async () =>
      (await readFile(join(folder, "starts"), "utf8").catch(() => "")).split("\n").slice(0, -1);
    await until(async () => (await starts()).length >= 2, "two starts");
    for (const line of await starts()) {
      const { key, names } = JSON.parse(line) as { key: string; names: string[] };
      expect(key).toBe("0123456789abcdef");
      expect(names).toEqual(expect.arrayContaining(["PATH", "GO_BUILD_KEY_PATH"]));
      expect(
        names.filter((name) => /DATABASE|TOKEN|VITEST|npm_(?!config_(registry|cafile|cache)$)/.test(name)),
      ).toEqual([]);
    }
  } finally {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  }
});
