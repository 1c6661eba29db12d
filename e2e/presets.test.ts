/**
 * The presets, each on a small tree of ours shaped like what it is for, through the real programs: what was run, where, with what, in which
 * order, and what the farm made of it.
 */

import { appendFile, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { packTar } from "modern-tar";
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { startOriginalBuildlet } from "../src/machines/testing/original-buildlet.ts";
import { STUB_JEST } from "../src/npm-tests/testing/stub-jest.ts";
import { connectionOf } from "../src/store/embedded-server.ts";
import { builderKey } from "../src/wire/builder-key/builder-key.ts";
import { Process, root, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

const HOST = "host-linux-amd64-local";
const DEV_MASTER = "gophers rule";

interface TestRow {
  readonly name: string;
  readonly outcome: string;
}

class Farm implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly folder: string;
  readonly process: Process;
  readonly db: pg.Client;

  constructor(folder: string, process: Process, db: pg.Client, stack: AsyncDisposableStack) {
    this.folder = folder;
    this.process = process;
    this.db = db;
    this.#stack = stack;
  }

  /** `config` is the text of a farm.config.ts after its import. */
  static async start(config: string): Promise<Farm> {
    await using stack = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    await mkdir(join(folder, "node_modules"));
    await symlink(root, join(folder, "node_modules/barnraiser"));
    const names = "defineFarm, goModule, goPolicy, goTree, makeProject, npmPackage";
    await writeFile(join(folder, "farm.config.ts"), `import { ${names} } from "barnraiser";\n${config}`);
    const flags = ["-mode=dev", "-config", join(folder, "farm.config.ts"), "-data", join(folder, "data")];
    const program = Process.program("coordinator.js", [...flags, "-listen", "localhost:0", "-http", "localhost:0"]);
    stack.use(program);
    await program.says(/The farm runs/);
    const db = new pg.Client(await connectionOf(join(folder, "data")));
    await db.connect();
    stack.defer(() => db.end());
    return new Farm(folder, program, db, stack.move());
  }

  /** The port that machines dial. */
  async port(): Promise<number> {
    const { https } = JSON.parse(await readFile(join(this.folder, "data/coordinator.json"), "utf8"));
    return Number(new URL(https).port);
  }

  /** Waits for `count` builds to end; how each did, and its tests, in order. */
  async ended(count: number): Promise<{ builder: string; outcome: string; reason: string | null; tests: TestRow[] }[]> {
    const rows = async () =>
      (
        await this.db.query(
          `select b.builder, b.outcome, b.reason, b.state,
             (select coalesce(jsonb_agg(jsonb_build_object('name', t.name, 'outcome', t.outcome) order by t.name), '[]')
              from test t where t.build_id = b.id) as tests
           from build b where outcome is distinct from 'canceled' order by b.id`,
        )
      ).rows;
    await until(
      async () => (await rows()).filter((row) => row.state === "ended").length >= count,
      90_000,
      () => `${count} builds to end\n${this.process.output}`,
    );
    return (await rows()).map(({ state: _, ...row }) => row);
  }

  /** All that a step's log has, of the newest attempt. */
  async log(build: number, step: string): Promise<string> {
    const { http } = JSON.parse(await readFile(join(this.folder, "data/coordinator.json"), "utf8"));
    return await (await fetch(`${http}/b/${build}/${step}/log`)).text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

const hosts = `hosts: [{ hostType: "${HOST}", pool: "local" }]`;

test("npmPackage(): node's own runner, file by file; a file that fails is the one that is named", {
  timeout: 240_000,
}, async () => {
  await using repository = await Repository.make();
  const ok = 'require("node:test")("it", () => {});\n';
  await repository.commit("A package", {
    "package.json":
      '{ "name": "x", "version": "1.0.0", "scripts": { "test": "node --test", "build": "echo built > built" } }',
    "test/good.js": `require("node:fs").statSync("built");\n${ok}`,
    "lib/bad.test.js": 'require("node:test")("it", () => { throw new Error("no") });\n',
    "lib/fine.test.mjs": 'import test from "node:test";\ntest("it", () => {});\n',
    "node_modules/dep/test.js": "throw new Error('not ours');\n",
  });
  await using farm =
    await Farm.start(`export default defineFarm({ repos: [{ name: "web", url: ${JSON.stringify(repository.path)} }], ${hosts},
    builders: [{ name: "linux-amd64", host: "${HOST}", ...npmPackage() }] });`);
  expect((await farm.ended(1))[0]).toMatchObject({
    outcome: "failure",
    tests: [
      { name: "lib/bad.test.js", outcome: "failure" },
      { name: "lib/fine.test.mjs", outcome: "success" },
      { name: "test/good.js", outcome: "success" },
    ],
  });
});

test("npmPackage(): vitest and jest by their own lists, reports and exits; a script that nobody knows is one test", {
  timeout: 240_000,
}, async () => {
  await using repository = await Repository.make();
  await repository.commit("With vitest", {
    "package.json": '{ "name": "x", "version": "1.0.0", "type": "module", "devDependencies": { "vitest": "*" } }',
    "src/a.test.js": 'import { test } from "vitest";\ntest("it", () => {});\n',
    "src/aa.test.js": 'import { expect, test } from "vitest";\ntest("it", () => expect(1).toBe(2));\n',
  });
  await using other = await Repository.make();
  await other.commit("With a script", {
    "package.json": '{ "name": "y", "version": "1.0.0", "scripts": { "test": "node check.js" } }',
    "check.js": "console.log('checked');\n",
  });
  await using skips = await Repository.make();
  await skips.commit("With jest", {
    "package.json": '{ "name": "z", "version": "1.0.0", "devDependencies": { "jest": "file:./jest" } }',
    ".npmrc": "audit=false\nfund=false\n",
    "jest/package.json": '{ "name": "jest", "version": "30.0.0", "bin": "jest.js" }',
    "jest/jest.js": STUB_JEST,
    "passed.test.js": "",
    "lib/focused.test.js": "",
    "skipped.test.js": "",
    "torn-down-badly.test.js": "",
  });
  // Instead of what npm would fetch.
  const vitest = dirname(createRequire(import.meta.url).resolve("vitest/package.json"));
  const build = JSON.stringify([`ln -s ${dirname(vitest)} node_modules`]);
  await using farm = await Farm.start(`const { steps, ...rest } = npmPackage({ build: ${build} });
    export default defineFarm({ ${hosts},
      repos: [{ name: "web", url: ${JSON.stringify(repository.path)} }, { name: "odd", url: ${JSON.stringify(other.path)} },
        { name: "skips", url: ${JSON.stringify(skips.path)} }],
      builders: [{ name: "linux-amd64", host: "${HOST}", repos: "web", steps: steps.slice(1), ...rest },
        { name: "linux-amd64-odd", host: "${HOST}", repos: "odd", ...npmPackage() },
        { name: "linux-amd64-skips", host: "${HOST}", repos: "skips", ...npmPackage() }] });`);
  const ended = await farm.ended(3);
  expect(Object.fromEntries(ended.map(({ builder, outcome, tests }) => [builder, [outcome, tests]]))).toEqual({
    "linux-amd64": [
      "failure",
      [
        { name: "src/a.test.js", outcome: "success" },
        { name: "src/aa.test.js", outcome: "failure" },
      ],
    ],
    "linux-amd64-odd": ["success", [{ name: "npm test", outcome: "success" }]],
    "linux-amd64-skips": [
      "failure",
      [
        { name: "lib/focused.test.js", outcome: "success" },
        { name: "passed.test.js", outcome: "success" },
        { name: "skipped.test.js", outcome: "skipped" },
        { name: "torn-down-badly.test.js", outcome: "failure" },
      ],
    ],
  });
});

test("makeProject(): configure, make, and the targets that are tests; a project without any fails and says so", {
  timeout: 240_000,
}, async () => {
  await using tool = await Repository.make();
  await tool.commit("With configure", {
    configure: '#!/bin/sh\necho "FLAG = $1" > config.mk\n',
    Makefile:
      "include config.mk\nall:\n\techo made > made\nchecked:\n\ttest -f made\nslow: checked\n\ttest $(FLAG) = --fast\ncheck: checked slow\n",
  });
  await using bare = await Repository.make();
  await bare.commit("Nothing to test", { Makefile: "all:\n\techo made\n", "test/a": "no target", "check/a": "" });
  await using farm = await Farm.start(`export default defineFarm({ ${hosts},
    repos: [{ name: "tool", url: ${JSON.stringify(tool.path)} }, { name: "bare", url: ${JSON.stringify(bare.path)} }],
    builders: [
      { name: "linux-amd64", host: "${HOST}", repos: "tool", ...makeProject({ configure: ["--fast"] }) },
      { name: "linux-amd64-two", host: "${HOST}", repos: "tool", ...makeProject({ targets: ["checked", "slow"] }) },
      { name: "linux-amd64-bare", host: "${HOST}", repos: "bare", ...makeProject() },
    ] });`);
  const ended = await farm.ended(3);
  const of = (name: string) => ended.find(({ builder }) => builder === name);
  expect(of("linux-amd64")).toMatchObject({ outcome: "success", tests: [{ name: "check", outcome: "success" }] });
  expect(of("linux-amd64-two")).toMatchObject({
    outcome: "failure",
    tests: [
      { name: "checked", outcome: "success" },
      { name: "slow", outcome: "failure" },
    ],
  });
  expect(of("linux-amd64-bare")).toMatchObject({ outcome: "failure", tests: [] });
});

/** A `go` that says what it was asked, and does what a tree shaped like Go's needs. */
const FAKE_GO = `#!/bin/sh
where=$(basename "$PWD")
echo "$where: go $*" >> "$CALLS"
case "$1 $2 $3" in
"tool dist test")
  test "$GOROOT" = "$WORKDIR/go" || { echo "GOROOT is $GOROOT"; exit 3; }
  list=; names=
  shift 3
  for arg; do case $arg in --list) list=1 ;; -*) ;; *) names="$names $arg" ;; esac; done
  if [ "$list" ]; then printf '%s\\n' archive/tar cmd/go net/http cmd/internal/testdir:0_2 cmd/internal/testdir:1_2 cmd/api:check; exit; fi
  test "$GOPATH $GOPROXY" = "$WORKDIR/gopath off" || { echo "GOPATH is $GOPATH, GOPROXY $GOPROXY"; exit 3; }
  test "$(command -v go)" = "$WORKDIR/go/bin/go" || { echo "PATH is $PATH"; exit 3; }
  echo "##### Testing packages."
  for name in $names; do echo "ok $name"; test "$name" != "$FAILS" || exit 1; done ;;
"test -short -timeout=10m")
  echo "GOROOT $GOROOT GOPATH $GOPATH GOPROXY $GOPROXY"
  ! test -f fails ;;
esac
`;
const MAKE_BASH = `#!/bin/sh -e
test "$(basename "$PWD")" = src
case $(cat ../VERSION) in "devel "????????????????????????????????????????) ;; *) echo "VERSION is $(cat ../VERSION)"; exit 3 ;; esac
test "\${GOBIN-unset}" = "" && test "\${GOROOT_BOOTSTRAP-unset}" = ""
test "$(command -v go)" = "$WORKDIR/go1.4/go/bin/go"
echo "src: make.bash $* with $(go version)" >> "$CALLS"
mkdir -p ../bin ../pkg/bootstrap ../doc/gopher
cp ../fakego ../bin/go
`;

/** An archive of a bootstrap Go, served to machines; resolves with its address. */
async function serveBootstrap(): Promise<string> {
  const body = "#!/bin/sh\necho go1.bootstrap\n";
  const tar = await packTar([{ header: { name: "go/bin/go", size: body.length, mode: 0o755, type: "file" }, body }]);
  const server = createServer((_, response) => response.end(gzipSync(tar)));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => new Promise<void>((closed) => void server.close(() => closed())));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/go.tar.gz`;
}

async function callsFile(): Promise<{ file: string; calls: () => Promise<string[]> }> {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "calls");
  await appendFile(file, "");
  return { file, calls: async () => (await readFile(file, "utf8")).trimEnd().split("\n") };
}

test("goTree(): a tree shaped like Go's is made, its tests are listed, filtered, grouped and run as the Go project does", {
  timeout: 240_000,
}, async () => {
  await using go = await Repository.make();
  await go.commit("A tree", { "src/make.bash": MAKE_BASH, fakego: FAKE_GO });
  await go.git("branch", "release-branch.go1.22");
  const url = await serveBootstrap();
  const { file, calls } = await callsFile();
  await using farm = await Farm.start(`export default defineFarm({ policy: goPolicy, ${hosts},
    repos: [{ name: "go", url: ${JSON.stringify(go.path)} }],
    builders: [goTree({ name: "linux-amd64", host: "${HOST}", bootstrap: { url: "${url}", nested: true }, makeScriptArgs: ["-v"],
      only: ["**", "!api"], env: { CALLS: "${file}", FAILS: "cmd/internal/testdir:1_2" } })] });`);
  expect((await farm.ended(1))[0]).toMatchObject({
    outcome: "failure",
    tests: [
      { name: "archive/tar", outcome: "success" },
      { name: "cmd/go", outcome: "success" },
      { name: "cmd/internal/testdir:0_2", outcome: "success" },
      { name: "cmd/internal/testdir:1_2", outcome: "failure" },
      { name: "net/http", outcome: "success" },
    ],
  });
  const [made, listed, ...ran] = await calls();
  expect([made, listed]).toEqual([
    "src: make.bash -v -force with go1.bootstrap",
    "work: go tool dist test --no-rebuild --list",
  ]);
  const groups = ran
    .map((call) => call.replace("work: go tool dist test --no-rebuild --banner=#####  ", ""))
    .toSorted();
  const packages = ["archive/tar", "cmd/go", "net/http"];
  const together = groups.filter((names) => names.split(" ").every((name) => packages.includes(name)));
  expect(together.flatMap((names) => names.split(" ")).toSorted()).toEqual(packages);
  // What is no package runs alone, and what failed once more.
  expect(groups.filter((names) => !together.includes(names))).toEqual([
    "cmd/internal/testdir:0_2",
    "cmd/internal/testdir:1_2",
    "cmd/internal/testdir:1_2",
  ]);
});

test("[coordinator 64] goTree() asks an original buildlet for everything in the order of old", {
  timeout: 240_000,
}, async () => {
  await using go = await Repository.make();
  const commit = await go.commit("A tree", { "src/make.bash": "" });
  const url = "https://go.dev/dl/go1.24.6.linux-amd64.tar.gz";
  const host = "host-linux-amd64-old";
  await using farm = await Farm.start(`export default defineFarm({ policy: goPolicy, hosts: [{ hostType: "${host}" }],
    repos: [{ name: "go", url: ${JSON.stringify(go.path)} }],
    builders: [goTree({ name: "linux-amd64", host: "${host}", bootstrap: { url: "${url}" } })] });`);
  await using old = await startOriginalBuildlet({
    port: await farm.port(),
    hostType: host,
    name: "old",
    key: builderKey(DEV_MASTER, host),
    exec: async (request, io) => {
      if (request.cmd.endsWith("make.bash")) await io.write(`dir ${request.dir} debug ${request.debug}\n`);
      if (request.args.includes("--list")) await io.write("net/http\napi\n");
      return "ok";
    },
  });
  expect((await farm.ended(1))[0]).toMatchObject({ outcome: "success" });
  await old.ended;
  const calls = old.calls.filter((call) => !/^GET \/status/.test(call)).map((call) => call.replace(/ -?\s*$/, ""));
  const bootstrap = calls.findIndex((call) => call.includes("go1.4"));
  expect(calls[bootstrap]).toBe(`POST /writetgz dir=go1.4 url=${url}`);
  const dist = "POST /exec go/bin/go tool dist test --no-rebuild";
  expect(calls.toSpliced(bootstrap, 1).filter((call) => !call.startsWith("GET /tgz"))).toEqual([
    "POST /removeall path=.",
    "PUT /writetgz dir=go",
    "PUT /writetgz dir=go",
    "POST /exec go/src/make.bash -force",
    "POST /removeall path=go/doc/gopher&path=go/pkg/bootstrap",
    "GET /workdir",
    `${dist} --list`,
    `${dist} --banner=#####  net/http`,
    `${dist} --banner=#####  api`,
    "POST /halt",
    "end",
  ]);
  const packed = calls.findIndex((call) => call.startsWith("GET /tgz"));
  expect(packed).toBeGreaterThan(calls.findIndex((call) => call.includes("doc/gopher")));
  expect(await farm.log(1, "source")).toContain(`linux-amd64 at ${commit}\n`);
  expect(await farm.log(1, "make")).toBe("dir go/src debug true\n");
});

test("goModule() with builtBy takes the tree that goTree() has kept, and makes nothing", {
  timeout: 240_000,
}, async () => {
  await using go = await Repository.make();
  await go.commit("A tree", { "src/make.bash": MAKE_BASH, fakego: FAKE_GO });
  await using net = await Repository.make();
  const url = await serveBootstrap();
  const { file, calls } = await callsFile();
  const repos = [go, net].map(
    ({ path }, i) => `{ name: "${i === 0 ? "go" : "net"}", url: ${JSON.stringify(path)}, poll: "1s" }`,
  );
  const common = `host: "${HOST}", bootstrap: { url: "${url}", nested: true }, env: { CALLS: "${file}", FAILS: "none" }`;
  await using farm = await Farm.start(`export default defineFarm({ policy: goPolicy, ${hosts}, repos: [${repos}],
    builders: [goTree({ name: "linux-amd64", ${common} }),
      goModule({ name: "linux-amd64-mod", ${common}, repos: "net", importPath: "golang.org/x/$REPO", builtBy: "linux-amd64" })] });`);
  expect(await farm.ended(1)).toMatchObject([{ builder: "linux-amd64", outcome: "success" }]);
  const kept = async () => (await farm.db.query("select from snapshot")).rows.length > 0;
  await until(kept, 30_000, () => "a snapshot");
  await net.commit("A module", { "go.mod": "module golang.org/x/net\n" });
  expect(await farm.ended(2)).toMatchObject([{}, { outcome: "success", tests: [{ name: ".", outcome: "success" }] }]);
  expect((await calls()).filter((call) => call.includes("make.bash"))).toHaveLength(1);
  expect(await farm.log(2, "source")).toContain("from a snapshot: ");
  expect(await farm.log(2, "make")).toBe("Not needed: go was written as it is after this.\n");
});

test("goModule(): each module of a repository with each tip of Go, and anew when Go moves; one that fails stops no other", {
  timeout: 240_000,
}, async () => {
  await using go = await Repository.make();
  await go.commit("A tree", { "src/make.bash": MAKE_BASH, fakego: FAKE_GO });
  await using net = await Repository.make();
  await net.commit("Modules", {
    "go.mod": "module golang.org/x/net\n",
    "inner/go.mod": "module golang.org/x/net/inner\n",
    "inner/fails": "",
    "testdata/go.mod": "module no\n",
    "_old/go.mod": "module no\n",
    "vendor/dep/go.mod": "module no\n",
    "z/go.mod": "module golang.org/x/net/z\n",
  });
  const url = await serveBootstrap();
  const { file, calls } = await callsFile();
  const repos = [go, net].map(
    ({ path }, i) => `{ name: "${i === 0 ? "go" : "net"}", url: ${JSON.stringify(path)}, poll: "1s" }`,
  );
  await using farm = await Farm.start(`export default defineFarm({ policy: goPolicy, ${hosts}, repos: [${repos}],
    builders: [goModule({ name: "linux-amd64-mod", host: "${HOST}", bootstrap: { url: "${url}", nested: true }, repos: "net",
      importPath: "golang.org/x/$REPO", env: { CALLS: "${file}" } })] });`);
  const tests = [
    { name: ".", outcome: "success" },
    { name: "inner", outcome: "failure" },
    { name: "z", outcome: "success" },
  ];
  expect(await farm.ended(1)).toMatchObject([{ outcome: "failure", tests }]);
  const ran = (await calls()).filter((call) => call.includes("go test")).toSorted();
  const goTest = "go test -short -timeout=10m ./...";
  // The one that failed has run once more.
  expect(ran).toEqual([`inner: ${goTest}`, `inner: ${goTest}`, `net: ${goTest}`, `z: ${goTest}`]);
  const tip = await go.commit("Go moves", {});
  expect(await farm.ended(2)).toMatchObject([{ tests }, { tests }]);
  expect(await farm.log(2, "source")).toMatch(new RegExp(`^linux-amd64-mod at ${tip} building net at [0-9a-f]{40}\n`));
});
