import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { checkFarm } from "./check.ts";
import { farmForRepository } from "./farm-for-repository.ts";
import { autodetect } from "./presets.ts";

test("farmForRepository() makes a farm of one repository on this computer", () => {
  const farm = checkFarm(
    farmForRepository({
      url: "https://example.org/x/some thing.git",
      from: "/home/me",
      branch: "dev",
      commands: ["a", "b c"],
      platform: "windows-amd64",
    }),
  );
  expect(farm.repos.map((r) => [r.name, r.branches, r.depth])).toEqual([["some-thing", ["dev"], 1]]);
  expect(farm.hosts.map((h) => [h.hostType, h.hostArch, h.pool, h.trust])).toEqual([
    ["host-windows-amd64-local", "windows-amd64", "local", "team"],
  ]);
  expect(farm.builders.map((b) => [b.name, b.steps.map((s) => s.command)])).toEqual([
    [
      "windows-amd64",
      [
        ["cmd", "/c", "a"],
        ["cmd", "/c", "b c"],
      ],
    ],
  ]);
});

test("farmForRepository() names a repository after the end of its address, whatever that is", () => {
  const name = (url: string, from = "/home/me/c#/my app") =>
    farmForRepository({ url, from, commands: ["x"], platform: "linux-arm64" }).repos[0]?.name;
  expect(["/", "git@h:a/b.git", "/x/y/", "C:\\src\\app", "ssh://h/~me/été"].map((url) => name(url))).toEqual([
    "repository", "b", "y", "app", "t-",
  ]); // biome-ignore format: pairs
  expect([".", "./", "..", "../", "../../x/..", "../b.git", "sub", "/x/app/.git"].map((url) => name(url))).toEqual([
    "my-app", "my-app", "c-", "c-", "me", "b", "sub", "app",
  ]); // biome-ignore format: pairs
  expect([name(".", "C:\\src\\app"), name("..", "/app"), name(".", "/")]).toEqual(["app", "repository", "repository"]);
});

test("autodetect() runs what it finds, and says what to pass when it finds nothing", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autodetect-"));
  const [step] = autodetect();
  const run = () =>
    new Promise<string>((resolve) => {
      execFile("sh", ["-ec", String(step?.command)], { cwd: folder }, (error, out, err) =>
        resolve(`${error?.code ?? 0}\n${out}${err}`),
      );
    });
  try {
    expect(await run()).toMatch(/^1\nFound no package.json.*\nSay what to run: npm start -- -repo URL -run 'COMMAND'/);
    await writeFile(join(folder, "Makefile"), "check:\n\t@echo checked\n");
    expect(await run()).toMatch(/^0\n\+ make check\n(.*\n)*checked\n/);
    await writeFile(
      join(folder, "package.json"),
      JSON.stringify({ name: "x", version: "1.0.0", scripts: { test: "echo tested" } }),
    );
    expect(await run()).toMatch(/^0\n\+ npm install\n(.*\n)*\+ npm test\n(.*\n)*tested\n/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
