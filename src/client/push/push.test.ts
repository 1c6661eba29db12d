import { execFileSync } from "node:child_process";
import { chmod, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { FakeFarm, type FakeFarmOptions } from "../testing/fake-farm.ts";
import { TestComputer } from "../testing/typed.ts";
import { compare, readListing, wholeFolders } from "./compare.ts";

const GO = {
  "src/make.bash": "#!/bin/bash\n",
  "src/internal/goversion/goversion.go": "package goversion\n\nconst Version = 27\n",
  "src/fmt/print.go": "package fmt\n",
};

/** A git repository with these files, the folder that the command is typed in, and an instance of a farm. */
async function start(
  files: { readonly [name: string]: string },
  options: FakeFarmOptions & { readonly name?: string } = {},
) {
  await using stack = new AsyncDisposableStack();
  const farm = stack.use(await FakeFarm.start(options));
  const computer = stack.use(await TestComputer.start(farm));
  const root = join(computer.home, options.name ?? "goroot");
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);
  git(root, "init", "-q");
  git(root, "add", "-A");
  const id = await farm.instance();
  const push = async (...flags: string[]) => {
    farm.calls.length = 0;
    const said = await computer.gomote(["push", ...flags, id], { cwd: root });
    return { ...said, changes: farm.calls.filter((call) => !call.startsWith("list ")) };
  };
  const moved = stack.move();
  const there = (name: string) => join(farm.work(id), name);
  return { farm, computer, root, id, write, push, there, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

function git(root: string, ...args: string[]): void {
  const identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"];
  execFileSync("git", ["-C", root, ...identity, ...args], { stdio: "ignore" });
}

/** All files and links below `folder`, sorted. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

test("[gomote 35] [gomote 37] a Go tree goes to go, with a VERSION when it has none; the second push sends and removes nothing", async () => {
  await using t = await start(GO);
  expect(await t.push()).toMatchObject({ status: 0, stdout: "", changes: ["upload", "unpack go"] });
  expect(await filesBelow(t.there("go"))).toEqual(["VERSION", ...Object.keys(GO)].sort());
  expect(await readFile(t.there("go/VERSION"), "utf8")).toBe("go1.27-devel_gomote");
  const second = await t.push();
  expect(second.changes).toEqual([]);
  expect(second.stderr).toContain(`# ${t.id}: go/ is as it is here already`);
  await t.write("src/fmt/print.go", "package fmt // changed\n");
  expect((await t.push()).changes).toEqual(["upload", "unpack go"]);
  expect(await readFile(t.there("go/src/fmt/print.go"), "utf8")).toContain("changed");
});

test("[gomote 36] what only the instance has is removed by one call with sorted names, once what is sent has arrived", async () => {
  await using t = await start(GO);
  await t.push();
  await mkdir(t.there("go/old/deep"), { recursive: true });
  for (const name of ["old/deep/a", "old/b", "src/z.go", "src/a.go", "src/time/tzdata/zzipdata.go"]) {
    await mkdir(dirname(t.there(`go/${name}`)), { recursive: true });
    await writeFile(t.there(`go/${name}`), "");
  }
  await t.write("new.go", "package x\n");
  const { changes, stderr } = await t.push();
  expect(changes).toEqual(["upload", "unpack go", "remove go/old go/src/a.go go/src/z.go"]);
  expect(stderr).toContain("removing 3 that are not here");
  expect(await filesBelow(t.there("go/src/time"))).toEqual(["tzdata/zzipdata.go"]);
});

test("[gomote 38] push -dry-run only lists, and says what would happen", async () => {
  await using t = await start(GO);
  await mkdir(t.there("go"), { recursive: true });
  await writeFile(t.there("go/extra"), "");
  const { changes, stderr } = await t.push("-dry-run");
  expect(changes).toEqual([]);
  expect(stderr).toContain(`# ${t.id}: would send 4 files, `);
  expect(stderr).toContain(`# ${t.id}: would remove 1 that is not here\n#   extra\n`);
});

test("[gomote 39] what editors leave, .git, bin and pkg, and what git ignores is not sent, nor removed there", async () => {
  await using t = await start({
    ...GO,
    ".gitignore": "*.log\n/cache/\n",
    "x~": "",
    ".x.swp": "",
    "#y#": "",
    "bin/go": "",
    "pkg/a": "",
    "a.log": "",
    "cache/b": "",
  });
  await t.push();
  expect(await filesBelow(t.there("go"))).toEqual([".gitignore", "VERSION", ...Object.keys(GO)].sort());
  for (const name of ["bin/go", "pkg/tool/x", "cache/b", "cache/only-there", "test.log", "src/new/deep/test.log"]) {
    await mkdir(dirname(t.there(`go/${name}`)), { recursive: true });
    await writeFile(t.there(`go/${name}`), "");
  }
  const second = await t.push();
  expect(second.changes).toEqual([]);
  expect(t.farm.calls.at(-1)).toBe("list go recursive skip=bin,cache,pkg");
});

test("any repository goes to a folder with its name, or to -dir, from any folder in it", async () => {
  await using t = await start({ "README.md": "hello\n", "sub/a.txt": "a\n", "sub/ä ö": "b\n" }, { name: "project" });
  const { stderr, changes } = await t.push();
  expect([stderr.split("\n")[0], changes]).toEqual([
    `# pushing ${t.root} to ${t.id}:project`,
    ["upload", "unpack project"],
  ]);
  expect(await filesBelow(t.there("project"))).toEqual(["README.md", "sub/a.txt", "sub/ä ö"]);
  expect((await t.push()).changes).toEqual([]);
  await t.computer.gomote(["push", "-dir=a/b", "-from=sub", t.id], { cwd: t.root });
  expect(await filesBelow(t.there("a/b"))).toEqual(["README.md", "sub/a.txt", "sub/ä ö"]);
  expect((await t.push("-dir=../x")).stderr).toContain('Cannot push to "../x"');
  expect((await t.computer.gomote(["push", "-from=.", t.id])).stderr).toContain("it is in no git repository");
});

test("a changed mode, links, and a file that became a folder or the other way round arrive", async () => {
  await using t = await start(
    { tool: "#!/bin/sh\n", plain: "p\n", "was-folder/a": "a\n", "was-file": "f\n" },
    { name: "project" },
  );
  await symlink("plain", join(t.root, "link"));
  await t.push();
  expect(await readlink(t.there("project/link"))).toBe("plain");
  expect((await t.push()).changes).toEqual([]);
  await chmod(join(t.root, "tool"), 0o755);
  await rm(join(t.root, "link"));
  await symlink("tool", join(t.root, "link"));
  await rm(join(t.root, "was-folder"), { recursive: true });
  await t.write("was-folder", "now a file\n");
  await rm(join(t.root, "was-file"));
  await t.write("was-file/b", "now in a folder\n");
  expect((await t.push()).changes).toEqual([
    "remove project/tool project/was-file project/was-folder",
    "upload",
    "unpack project",
  ]);
  expect((await lstat(t.there("project/tool"))).mode & 0o777).toBe(0o755);
  expect(await readlink(t.there("project/link"))).toBe("tool");
  expect(await filesBelow(t.there("project"))).toEqual(["link", "plain", "tool", "was-file/b", "was-folder"]);
  expect((await t.push()).changes).toEqual([]);
});

test("any name of a file is sent, tracked or not; what is no UTF-8 is said not to be, and so is a LF where the machine cannot list it", async () => {
  for (const own of [true, false]) {
    await using t = await start(
      { "a\nb": "1\n", "tab\there": "2\n", '"é ☃"': "3\n", "-x": "4\n" },
      { name: "project", own },
    );
    await t.write(" new\n", "5\n");
    await writeFile(Buffer.concat([Buffer.from(`${t.root}/`), Buffer.from([0xff])]), "6\n");
    const first = await t.push();
    expect(first.stderr).toContain('# "\ufffd" is not sent');
    const names = [" new\n", '"é ☃"', "-x", "a\nb", "tab\there"];
    expect(await filesBelow(t.there("project"))).toEqual(names);
    await rm(join(t.root, "tab\there"));
    await t.write("a\nb", "changed\n");
    const second = await t.push();
    if (own) {
      expect(second.changes).toEqual(["push project", "remove project/tab\there"]);
      expect(await readFile(t.there("project/a\nb"), "utf8")).toBe("changed\n");
    } else {
      expect(second.changes).toEqual(["remove project/tab\there"]);
      expect(second.stderr).toContain("what has a line feed in its name is not sent");
    }
    expect((await t.push()).changes).toEqual([]);
  }
});

test("a work tree of another repository, and a rename that is not committed, are sent as they lie there", async () => {
  await using t = await start({ "old.txt": "a\n", "kept.txt": "k\n" }, { name: "main" });
  git(t.root, "commit", "-qm", "first");
  const tree = join(t.computer.home, "tree");
  git(t.root, "worktree", "add", "-q", tree);
  git(tree, "mv", "old.txt", "new.txt");
  const push = () => t.computer.gomote(["push", t.id], { cwd: tree });
  expect((await push()).status).toBe(0);
  expect(await filesBelow(t.there("tree"))).toEqual(["kept.txt", "new.txt"]);
  expect((await push()).stderr).toContain("tree/ is as it is here already");
});

test("repositories within the repository are sent with it", async () => {
  await using t = await start({ "a.txt": "a\n" }, { name: "project" });
  for (const name of ["module", "nested"]) {
    await mkdir(join(t.computer.home, name));
    await writeFile(join(t.computer.home, name, "m.txt"), "m\n");
    git(join(t.computer.home, name), "init", "-q");
    git(join(t.computer.home, name), "add", "-A");
    git(join(t.computer.home, name), "commit", "-qm", "m");
  }
  git(t.root, "submodule", "add", "-q", join(t.computer.home, "module"), "lib/module");
  await rename(join(t.computer.home, "nested"), join(t.root, "nested"));
  await t.push();
  expect(await filesBelow(t.there("project"))).toEqual([".gitmodules", "a.txt", "lib/module/m.txt", "nested/m.txt"]);
  expect((await t.push()).changes).toEqual([]);
});

test("a farm of ours takes what differs as one stream; files that changed since are read again", async () => {
  await using t = await start({ "a.txt": "a\n", big: "x".repeat(3_000_000) }, { name: "project", own: true });
  expect((await t.push()).changes).toEqual(["push project"]);
  expect(await readFile(t.there("project/big"), "utf8")).toBe("x".repeat(3_000_000));
  expect((await t.push()).changes).toEqual([]);
  await t.write("a.txt", "b\n");
  expect((await t.push()).changes).toEqual(["push project"]);
  expect(await readFile(t.there("project/a.txt"), "utf8")).toBe("b\n");
});

test("push goes to all instances of a group at once", async () => {
  await using t = await start({ "a.txt": "a\n" }, { name: "project" });
  await t.computer.gomote(["create", "-count=2", "-new-group=g", "linux-amd64"]);
  expect((await t.computer.gomote(["-group=g", "push"], { cwd: t.root })).status).toBe(0);
  for (const id of ["alice-linux-amd64-1", "alice-linux-amd64-2"])
    expect(await readFile(join(t.farm.work(id), "project", "a.txt"), "utf8")).toBe("a\n");
});

test("create -setup pushes a Go tree and builds it; when that fails, says where its output is", async () => {
  const make = "#!/bin/bash\necho building; [ ! -e go/fail ]\n";
  await using t = await start({ ...GO, "src/make.bash": make });
  await chmod(join(t.root, "src/make.bash"), 0o755);
  const create = () => t.computer.gomote(["create", "-setup", "linux-amd64"], { cwd: t.root });
  const built = await create();
  expect([built.status, built.stdout]).toEqual([0, "alice-linux-amd64-1\nbuilding\n"]);
  await t.write("fail", "");
  const failed = await create();
  expect([failed.status, failed.stdout]).toEqual([1, "alice-linux-amd64-2\nbuilding\n"]);
  expect(failed.stderr).toMatch(
    /# alice-linux-amd64-2: go\/src\/make.bash: exit status 1; see \S+alice-linux-amd64-2.stdout\n/,
  );
});

test("compare() and wholeFolders() decide by digest, mode and kind", () => {
  const sha1 = "a".repeat(40);
  const file = (name: string, executable = false) => ({ name, size: 1, executable, content: { sha1 } });
  const there = readListing([
    `-rw-r--r--\tsame\t1\t2026-11-23T17:00:05Z\t${sha1}`,
    `-rw-r--r--\tother\t1\t2026-11-23T17:00:05Z\t${"b".repeat(40)}`,
    `-rw-r--r--\tmode\t1\t2026-11-23T17:00:05Z\t${sha1}`,
    "drwxr-xr-x\told/",
    `-rw-r--r--\told/x\t1\t2026-11-23T17:00:05Z\t${sha1}`,
    "nonsense",
  ]);
  const local = [file("same"), file("other"), file("mode", true), file("d/new")];
  const found = compare(local, there, { modes: true, links: new Map() });
  expect(found.send.map(({ name }) => name)).toEqual(["other", "mode", "d/new"]);
  expect([found.others, found.inTheWay, found.bytes]).toEqual([["old/", "old/x"], ["mode"], 3]);
  expect(compare(local, there, { modes: false, links: new Map() }).send).toHaveLength(2);
  expect(wholeFolders(["old/", "old/x", "old/sub/", "old/sub/y"], [])).toEqual(["old/"]);
  expect(wholeFolders(["old/", "old/x", "old/sub/", "old/sub/y"], ["old/kept"])).toEqual(["old/sub/", "old/x"]);
});
