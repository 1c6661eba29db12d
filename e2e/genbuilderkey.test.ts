/** `genbuilderkey` as operators run it: a real process, its exit status, and what it says where. */
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { reachableFolder } from "../src/store/testing/reachable-folder.ts";
import { root } from "./testing/process.ts";

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(home: string, ...args: string[]): Promise<Run> {
  return new Promise((resolve) => {
    const env = { ...process.env, HOME: home, DATABASE_URL: "" };
    execFile(process.execPath, [`${root}dist/genbuilderkey.js`, ...args], { env, cwd: home }, (error, out, err) =>
      resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err }),
    );
  });
}

async function home(): Promise<string> {
  const folder = await reachableFolder(join(tmpdir(), "barnraiser-keys-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test("[coordinator 52] genbuilderkey wants one argument, else usage on stderr and exit 2; prints 32 hex digits and LF", async () => {
  const folder = await home();
  await mkdir(join(folder, "keys"));
  await writeFile(join(folder, "keys/gobuilder-master.key"), "gophers rule\n");
  const [none, two, one] = await Promise.all([
    run(folder),
    run(folder, "a", "b"),
    run(folder, "host-linux-amd64-localdev"),
  ]);
  for (const { code, out, err } of [none, two]) {
    expect([code, out, err.startsWith("Usage: genbuilderkey")]).toEqual([2, "", true]);
  }
  expect(one).toEqual({ code: 0, out: "4d8129e2963df29b29cab65e108397d1\n", err: "" });
});

test("genbuilderkey without a master key, or with an empty one, says where it looked", async () => {
  const folder = await home();
  const missing = await run(folder, "-data", join(folder, "farm"), "host-a");
  expect([missing.code, missing.out]).toEqual([2, ""]);
  expect(missing.err).toMatch(/Cannot find a master key: .*farm\/master\.key.*gobuilder-master\.key/);
  await writeFile(join(folder, "empty"), " \n");
  expect((await run(folder, "-masterkey", join(folder, "empty"), "host-a")).err).toMatch(/empty: it is empty/);
});

test("genbuilderkey makes, lists and revokes keys of machines, with no coordinator running", {
  timeout: 120_000,
}, async () => {
  const folder = await home();
  const data = join(folder, "farm");
  const made = await run(folder, "-data", data, "-machine", "riverboard", "-expires", "720h", "host-a");
  expect(made, made.err).toMatchObject({ code: 0, out: expect.stringMatching(/^[0-9a-f]{32}\n$/) });
  const listed = await run(folder, "-data", data, "-list");
  const id = /^(K[0-9a-f]{9}) +riverboard +host-a +.* good$/m.exec(listed.out)?.[1] ?? "";
  expect([listed.out.includes(made.out.trim()), id.length], listed.out + listed.err).toEqual([false, 10]);
  expect(await run(folder, "-data", data, "-revoke", id)).toEqual({ code: 0, out: `Revoked ${id}\n`, err: "" });
  expect((await run(folder, "-data", data, "-list")).out).toMatch(/riverboard .* revoked /);
  expect(await run(folder, "-data", data, "-revoke", "K000000000")).toMatchObject({ code: 2, out: "" });
});

test("genbuilderkey warns of a host type that the configuration does not have, and prints the key all the same", async () => {
  const folder = await home();
  await writeFile(join(folder, "master"), "gophers rule\n");
  const key = (...args: string[]) => run(folder, "-masterkey", join(folder, "master"), ...args);
  const missing = await key("-config", "elsewhere.ts", "host-linux-amd64-lent");
  expect(missing).toMatchObject({
    code: 0,
    err: expect.stringMatching(/^Warning: cannot tell .*elsewhere\.ts: there is no/),
  });
  await writeFile(
    join(folder, "farm.config.ts"),
    'export default { repos: [{ name: "a", url: "." }], hosts: [{ hostType: "host-linux-amd64-lent" }], builders: [] };',
  );
  const slip = await key("host-linux-amd46-lent");
  expect(slip).toEqual({
    code: 0,
    out: expect.stringMatching(/^[0-9a-f]{32}\n$/),
    err: 'Warning: farm.config.ts has no host type "host-linux-amd46-lent"; did you mean "host-linux-amd64-lent"?\n',
  });
  expect((await key("host-linux-amd64-lent")).err).toBe("");
});
