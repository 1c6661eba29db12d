/** The program as machines get it, on small packages, with the runners themselves or, of jest, something that writes the same report. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { npmTests } from "../../scripts/npm-tests.ts";
import { STUB_JEST } from "./testing/stub-jest.ts";

const PROGRAM: string = JSON.parse(npmTests().NPM_TESTS);

interface Ended {
  readonly code: number;
  readonly out: string;
}

/** A package with these files, and a folder for what is temporary. */
class Tree {
  readonly folder: string;
  readonly temp: string;

  constructor(folder: string, temp: string) {
    this.folder = folder;
    this.temp = temp;
  }

  static async make(files: Record<string, string>): Promise<Tree> {
    const both = await realpath(await mkdtemp(join(tmpdir(), "npm-tests-")));
    onTestFinished(() => rm(both, { recursive: true, force: true }));
    const [folder, temp] = [join(both, "package"), join(both, "temp")];
    await mkdir(temp);
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), text, { mode: 0o755 });
    }
    return new Tree(folder, temp);
  }

  /** The modules of this checkout, vitest among them. */
  async withOurModules(): Promise<this> {
    const vitest = dirname(createRequire(import.meta.url).resolve("vitest/package.json"));
    await symlink(dirname(vitest), join(this.folder, "node_modules"));
    return this;
  }

  program(...args: string[]): Promise<Ended> {
    const { FORCE_COLOR: _, VITEST: __, NODE_OPTIONS: ___, ...env } = process.env;
    const options = { cwd: this.folder, env: { ...env, TMPDIR: this.temp, NO_COLOR: "1", BARNRAISER_MARK: "##" } };
    return new Promise((resolve) => {
      execFile(process.execPath, ["-e", PROGRAM, "--", ...args], options, (error, out, err) =>
        resolve({ code: Number(error?.code ?? 0), out: out + err }),
      );
    });
  }

  async list(tests = "files"): Promise<string[]> {
    const { out } = await this.program("list", tests);
    return out.split("\n").flatMap((line) => (line.startsWith("## name ") ? [line.slice(8)] : []));
  }

  /** How a group ended, and what was reported of it. */
  async run(...names: string[]): Promise<{ code: number; reported: string[]; out: string }> {
    const { code, out } = await this.program("run", "files", "junit/results.xml", ...names);
    const xml = await readFile(join(this.folder, "junit/results.xml"), "utf8");
    const reported = [...xml.matchAll(/name="(.*?)".*?>(?:<(failure|skipped))?/g)].map(
      ([, name, kind]) => `${name} ${kind ?? "passed"}`,
    );
    return { code, reported: reported.toSorted(), out };
  }
}

const PASSES = 'import { test } from "vitest";\ntest("it", () => {});\n';

test("vitest: an error that no file is blamed for fails the group; thresholds of coverage do not", async () => {
  const tree = await (
    await Tree.make({
      "package.json": '{ "type": "module", "devDependencies": { "vitest": "*" } }',
      "vitest.config.js":
        "export default { test: { coverage: { enabled: true, provider: 'custom', customProviderModule: './none.js' } } };\n",
      "good.test.js": PASSES,
      "leaks.test.js":
        'import { test } from "vitest";\ntest("it", () => {\n  setTimeout(() => { throw new Error("late"); }, 0);\n});\n' +
        'test("next", () => new Promise((done) => setTimeout(done, 50)));\n',
    })
  ).withOurModules();
  expect((await tree.list()).toSorted()).toEqual(["good.test.js", "leaks.test.js"]);
  expect(await tree.run("good.test.js")).toMatchObject({ code: 0, reported: ["good.test.js passed"] });
  expect(await tree.run("leaks.test.js", "good.test.js")).toMatchObject({
    code: 1,
    reported: ["good.test.js passed", "leaks.test.js passed"],
    out: expect.stringContaining("Error: late"),
  });
});

test("vitest: a file that two projects have is one test, and a name means that file alone", async () => {
  const tree = await (
    await Tree.make({
      "package.json": '{ "type": "module", "devDependencies": { "vitest": "*" } }',
      "vitest.config.js": `const project = (name, root = ".") => ({ root, test: { name, include: ["**/*.test.{js,jsx}"] } });
        export default { test: { projects: [project("one"), project("two"), project("sub", "sub")] } };`,
      "a.test.js": PASSES,
      "[x] y.test.js": PASSES,
      "a.test.jsx": "throw new Error('not asked for');\n",
      "lib/a.test.js": "throw new Error('not asked for');\n",
      "lib/[x] y.test.js": "throw new Error('not asked for');\n",
      "sub/lib/a.test.js": PASSES,
      "sub/src/b.test.js": PASSES,
      "sub/lib/src/b.test.js": "throw new Error('not asked for');\n",
    })
  ).withOurModules();
  expect(await tree.list()).toHaveLength(8);
  const ran = await tree.run("a.test.js", "[x] y.test.js", "sub/lib/a.test.js", "sub/src/b.test.js");
  expect(ran).toMatchObject({
    code: 0,
    reported: ["[x] y.test.js", "a.test.js", "sub/lib/a.test.js", "sub/src/b.test.js"].map((name) => `${name} passed`),
  });
  expect(ran.out).not.toContain("not asked for");
});

test("jest: what was skipped has not failed, and its exit is believed", async () => {
  const tree = await Tree.make({
    "package.json": '{ "devDependencies": { "jest": "*" } }',
    "node_modules/.bin/jest": STUB_JEST,
    "passed.test.js": "",
    "lib/focused.test.js": "",
    "skipped.test.js": "",
    "failed.test.js": "",
    "torn-down-badly.test.js": "",
  });
  const names = [
    "failed.test.js",
    "lib/focused.test.js",
    "passed.test.js",
    "skipped.test.js",
    "torn-down-badly.test.js",
  ];
  expect((await tree.list()).toSorted()).toEqual(names);
  expect(await tree.run("passed.test.js", "lib/focused.test.js", "skipped.test.js")).toMatchObject({
    code: 0,
    reported: ["lib/focused.test.js passed", "passed.test.js passed", "skipped.test.js skipped"],
  });
  expect(await tree.run("passed.test.js", "failed.test.js")).toMatchObject({
    code: 1,
    reported: ["failed.test.js failure", "passed.test.js passed"],
  });
  expect(await tree.run("torn-down-badly.test.js")).toMatchObject({
    code: 1,
    reported: ["torn-down-badly.test.js passed"],
  });
  expect((await readdir(tree.temp)).filter((name) => name !== "node-compile-cache")).toEqual([]); // which is npx's
});

test("a runner that is not there, fails before it reports, or leaves a file out, has failed", async () => {
  const make = (jest: Record<string, string>) =>
    Tree.make({ "package.json": '{ "devDependencies": { "jest": "*" } }', ...jest });
  const jest = (text: string) => make({ "node_modules/.bin/jest": `#!/bin/sh\n${text}\n` });
  expect((await (await make({})).program("list", "files")).code).toBe(1);
  expect(await (await jest("exit 1")).run("a.test.js")).toMatchObject({ code: 1, reported: [] });
  expect(await (await jest("exit 0")).run("a.test.js")).toMatchObject({ code: 1, reported: [] });
});

test("node --test: the files that node itself finds, in TypeScript too; a flag decides", async () => {
  const tells = (name: string) => `require("node:fs").appendFileSync("ran", ${JSON.stringify(`${name}\n`)});\n`;
  const files = [
    "a.test.js",
    "test/any.cjs",
    "b.test.cts",
    "lib/test/deep.cts",
    "test-c.cts",
    "lib/other.js",
    "node_modules/x/d.test.js",
  ];
  const make = (script: string) =>
    Tree.make({
      "package.json": JSON.stringify({ scripts: { test: script } }),
      ...Object.fromEntries(files.map((name) => [name, tells(name)])),
    });
  for (const flags of ["--test", "--test --no-strip-types"]) {
    const tree = await make(`node ${flags}`);
    const listed = await tree.list();
    expect((await tree.program("run", "script", "junit/results.xml", "npm test")).code).toBe(0);
    const ran = (await readFile(join(tree.folder, "ran"), "utf8")).trimEnd().split("\n");
    expect(listed.toSorted()).toEqual(ran.toSorted());
    expect(listed).toHaveLength(flags === "--test" ? 5 : 2);
    expect(await tree.run(...listed)).toMatchObject({
      code: 0,
      reported: listed.map((name) => `${name} passed`).toSorted(),
    });
  }
});

test("node --test: a name means that file alone, whatever it would be as a pattern", async () => {
  const names = [
    "(group)/[id].test.js",
    "(group)/[...all].test.js",
    "u+(x).test.js",
    "{a,b}/st*r?.test.js",
    "!x/#y.test.js",
  ];
  const others = ["(group)/i.test.js", "(group)/(id).test.js", "uxx.test.js", "a/star1.test.js"];
  const tree = await Tree.make({
    "package.json": '{ "scripts": { "test": "node --test" } }',
    ...Object.fromEntries(names.map((name) => [name, ""])),
    ...Object.fromEntries(others.map((name) => [name, "throw new Error('not asked for');\n"])),
  });
  expect((await tree.list()).toSorted()).toEqual([...names, ...others].toSorted());
  const ran = await tree.run(...names);
  expect(ran).toMatchObject({ code: 0, reported: names.map((name) => `${name} passed`).toSorted() });
  expect(ran.out.match(/^# tests 1$|tests 1$/gm)).toHaveLength(names.length);
});

test("node --test: where no test file is found, the test script is the test", async () => {
  const tree = await Tree.make({ "package.json": '{ "scripts": { "test": "node --test --test-name-pattern=x" } }' });
  expect(await tree.list()).toEqual(["npm test"]);
  expect(await tree.run("npm test")).toMatchObject({ reported: [expect.stringContaining("npm test")] });
});

test("workspaces without a test script are no tests, and a package with none of them says so", async () => {
  const tree = await Tree.make({ "package.json": '{ "name": "x", "version": "1.0.0", "workspaces": [] }' });
  expect(await tree.program("list", "workspaces")).toEqual({
    code: 1,
    out: "No workspace of this package has a script named test\n",
  });
});
