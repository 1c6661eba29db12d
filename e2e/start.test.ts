/** The two commands, as a new user gives them: real coordinator, database, stage0, buildlet, git. */
import { execFile } from "node:child_process";
import { chown, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { freshDatabase } from "../src/store/testing/database.ts";
import { Process, processesWith, root } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

async function dataFolder(): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function flagsFor(data: string, ...flags: string[]): string[] {
  return ["-data", data, "-listen", "localhost:0", "-http", "localhost:0", ...flags];
}

function start(data: string, ...flags: string[]): Process {
  return Process.program("barnraiser.js", flagsFor(data, ...flags));
}

test("-once ends with 0 when the newest commit is green, and leaves no process behind", async () => {
  await using repository = await Repository.make();
  await repository.commit("First");
  await repository.commit("Second", { "hello.sh": "#!/bin/sh\necho hello from $GO_BUILDER_NAME\n" });
  const data = await dataFolder();
  await using farm = start(data, "-repo", repository.path, "-run", "./hello.sh", "-run", "echo two", "-once");
  expect(await farm.exited, farm.output).toBe(0);
  expect(farm.output).toMatch(/pages +http:\/\/localhost:\d+/);
  expect(farm.output).toMatch(/✓ success .*Second/);
  expect(await processesWith(data)).toEqual([]);
});

test("symbolic links of the repository are there for the commands, except those that lead out of it", async () => {
  await using repository = await Repository.make();
  await symlink("hello.txt", join(repository.path, "link"));
  await symlink("/etc/passwd", join(repository.path, "out"));
  await repository.commit("Link", { "hello.txt": "hello through a link\n" });
  const commands = ["-run", "cat link", "-run", "test ! -L out"];
  await using farm = start(await dataFolder(), "-repo", repository.path, ...commands, "-once");
  expect(await farm.exited, farm.output).toBe(0);
});

test("-once ends with 1 when a build failed, printing step, last lines and link", async () => {
  await using repository = await Repository.make();
  await repository.commit("Break it", { "test.sh": "#!/bin/sh\nseq 1 30\necho 'expected 3, got 4' >&2\nexit 7\n" });
  await using farm = start(await dataFolder(), "-repo", repository.path, "-run", "true", "-run", "./test.sh", "-once");
  expect(await farm.exited, farm.output).toBe(1);
  expect(farm.output).toMatch(/failed in step “\.\/test\.sh”/);
  expect(farm.output).toContain("  30\n  expected 3, got 4\n");
  expect(farm.output).not.toContain("\n  11\n");
  expect(farm.output).toMatch(/\n {2}http:\/\/localhost:\d+\/b\/\d+\n/);
});

test("-once on a data folder that was used before judges what is there now: commit, command, repository", {
  timeout: 120_000,
}, async () => {
  await using repository = await Repository.make();
  await using other = await Repository.make();
  await repository.commit("Good", { "t.sh": "exit 0\n" });
  await other.commit("Good too");
  const data = await dataFolder();
  const once = async (...flags: string[]) => {
    await using farm = start(data, ...flags, "-once");
    return { status: await farm.exited, said: farm.output };
  };
  const path = repository.path;
  expect((await once("-repo", path, "-run", "sh t.sh")).status).toBe(0);
  await repository.commit("Bad", { "t.sh": "exit 5\n" });
  expect((await once("-repo", path, "-run", "sh t.sh")).status).toBe(1);
  expect((await once("-repo", path, "-run", "true")).status).toBe(0);
  expect((await once("-repo", path, "-run", "false")).status).toBe(1);
  expect((await once("-repo", other.path, "-run", "true")).status).toBe(0);
  await rename(path, `${path}.gone`);
  const gone = await once("-repo", path, "-run", "true");
  await rename(`${path}.gone`, path);
  expect(gone).toMatchObject({ status: 2, said: expect.stringContaining(path) });
});

test("-once ends with 2, saying why, when the farm cannot do it", async () => {
  await using repository = await Repository.make();
  await repository.commit("First");
  const endings = await Promise.all(
    [
      ["-repo", "/nowhere/app", "-run", "true", "-once"],
      ["-repo", repository.path, "-branch", "absent", "-run", "true", "-once"],
    ].map(async (flags) => {
      await using farm = start(await dataFolder(), ...flags);
      const status = await farm.exited;
      return { status, said: farm.output };
    }),
  );
  expect(endings.map((ending) => ending.status)).toEqual([2, 2]);
  expect(endings[0]?.said).toContain("/nowhere/app");
  expect(endings[1]?.said).toContain("absent");
  expect(endings[1]?.said).toContain("main");
});

test("wrong flags and addresses end with 2 and a way out", async () => {
  const data = await dataFolder();
  for (const [flags, said] of [
    [["-unknown"], "flag provided but not defined: -unknown"],
    [["-listen", "8119"], 'invalid value "8119" for flag -listen: want HOST:PORT'],
    [["-run", "true"], "-branch and -run go with -repo"],
  ] as const) {
    await using farm = Process.program("barnraiser.js", ["-data", data, ...flags]);
    expect(await farm.exited).toBe(2);
    expect(farm.output).toContain(said);
  }
});

test("without -once it goes on watching: a new commit is built, a second instance is refused, Ctrl-C ends every process", async () => {
  await using repository = await Repository.make();
  await repository.commit("First");
  const data = await dataFolder();
  const config = join(data, "farm.config.ts");
  await writeFile(
    config,
    `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s" }],
      hosts: [{ hostType: "host-linux-amd64-local", pool: "local" }],
      builders: [{ name: "linux-amd64", host: "host-linux-amd64-local", steps: ["true"] }] };\n`,
  );
  await using farm = start(data, "-config", config);
  await farm.says(/✓ success .*First/);
  await using second = start(data, "-config", config);
  expect(await second.exited).toBe(2);
  expect(second.output).toContain(`the coordinator with process id ${farm.child.pid}`);
  await repository.commit("Later");
  await farm.says(/✓ success .*Later/);
  farm.kill("SIGINT");
  expect(await farm.exited).toBe(0);
  expect(await processesWith(data)).toEqual([]);
});

test("it runs as root and as an ordinary user", async () => {
  await using repository = await Repository.make();
  await repository.commit("First");
  const nobody = { uid: 65534, gid: 65534 };
  // Root may become anybody, who must be able to read the programs; an ordinary user has only itself to try.
  const users = process.getuid?.() === 0 && (await readableByAll(root)) ? [undefined, nobody] : [undefined];
  for (const user of users) {
    const data = await dataFolder();
    if (user) await chown(data, user.uid, user.gid);
    const flags = flagsFor(data, "-repo", repository.path, "-run", "id -u", "-once");
    await using farm = Process.program("barnraiser.js", flags, user ? { user, env: { HOME: data }, cwd: data } : {});
    expect(await farm.exited, farm.output).toBe(0);
  }
});

test("DATABASE_URL names a PostgreSQL of one's own, which is then used instead", async () => {
  await using database = await freshDatabase();
  await using repository = await Repository.make();
  await repository.commit("First");
  const data = await dataFolder();
  const flags = flagsFor(data, "-repo", repository.path, "-run", "true", "-once");
  await using farm = Process.program("barnraiser.js", flags, { env: { DATABASE_URL: database.url } });
  expect(await farm.exited, farm.output).toBe(0);
  expect(await database.sql.query("select outcome from build")).toEqual([{ outcome: "success" }]);
  await expect(stat(join(data, "postgres"))).rejects.toThrow("ENOENT");
  await using wrong = Process.program("barnraiser.js", flags, { env: { DATABASE_URL: "postgres://localhost:1/none" } });
  expect(await wrong.exited).toBe(2);
  expect(wrong.output).toMatch(/Cannot open the database \(DATABASE_URL\).*ECONNREFUSED/);
});

async function readableByAll(folder: string): Promise<boolean> {
  for (let at = folder; ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o005) !== 0o005) return false;
    if (at === dirname(at)) return true;
  }
}

test("a port that is taken is named", async () => {
  await using repository = await Repository.make();
  await repository.commit("First");
  const flags = ["-repo", repository.path, "-run", "true"];
  await using farm = start(await dataFolder(), ...flags);
  const port = (await farm.says(/pages +http:\/\/localhost:(\d+)/))[1];
  await using other = Process.program("barnraiser.js", [
    "-data",
    await dataFolder(),
    "-listen",
    "localhost:0",
    "-http",
    `localhost:${port}`,
    ...flags,
  ]);
  expect(await other.exited).toBe(2);
  expect(other.output).toMatch(new RegExp(`localhost:${port}.*(in use|EADDRINUSE)`));
});

test.each(["coordinator", "barnraiser", "genbuilderkey"])(
  "%s under a Node that is too old says so in one line",
  async (program) => {
    const old = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.19.0" } })`;
    const ended = promisify(execFile)(process.execPath, [
      "--import",
      `data:text/javascript,${encodeURIComponent(old)}`,
      join(root, "dist", `${program}.js`),
      "-help",
    ]);
    await expect(ended).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^Barnraiser needs Node \d+, this is 20\.19\.0\. .*\n$/),
    });
  },
);
