/** Days with the command, against a farm of real processes: files, groups, builds that failed, and trouble on the way. */
import { execFile, execFileSync } from "node:child_process";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { RpcClient } from "../src/gomote/testing/rpc-client.ts";
import { Computer, LentFarm, TYPE } from "./testing/lent-farm.ts";
import { processesWith, until } from "./testing/process.ts";
import { Repository } from "./testing/repository.ts";

const FIRST = `alice-${TYPE}-0`;
const SECOND = `alice-${TYPE}-1`;
const execute = promisify(execFile);

test("archives travel from a file, from standard input and from a URL, and back", { timeout: 120_000 }, async () => {
  await using farm = await LentFarm.start();
  const computer = await Computer.loggedIn(farm);
  const { gomote, cwd } = bound(computer);
  await gomote(["create", "-status=false", TYPE]);
  await mkdir(join(cwd, "tree", "deep"), { recursive: true });
  await writeFile(join(cwd, "tree", "deep", "a b"), "hello\n");
  execFileSync("tar", ["-C", join(cwd, "tree"), "-czf", join(cwd, "tree.tar.gz"), "."]);

  expect(await gomote(["puttar", "-dir=from-file", FIRST, "tree.tar.gz"])).toEqual(silent);
  const archive = await readFile(join(cwd, "tree.tar.gz"));
  expect(await gomote(["puttar", "-dir=from-stdin", FIRST, "-"], { input: archive })).toEqual(silent);
  using rpc = new RpcClient(Number(farm.address.split(":")[1]), await farm.token());
  const read = { gomote_id: FIRST, directory: "from-file" };
  const { url } = (await rpc.call("ReadTGZToURL", read)) as { url: string };
  expect(await gomote(["puttar", "-dir=from-url", FIRST, url])).toEqual(silent);
  for (const from of ["file", "stdin", "url"])
    expect((await gomote(["run", FIRST, "/bin/cat", `from-${from}/deep/a b`])).stdout).toBe("hello\n");
  expect((await gomote(["puttar", FIRST, farm.http])).stderr).toContain("This farm fetches nothing from elsewhere");

  expect((await gomote(["gettar", "-dir=from-stdin", FIRST])).stderr).toMatch(/^# wrote \/.*\.tar\.gz, \d+ bytes\n$/);
  const listed = execFileSync("tar", ["-tzf", join(cwd, `${FIRST}.tar.gz`)], { encoding: "utf8" });
  expect(listed.split("\n")).toContain("deep/a b");
  expect(await gomote(["gettar", "-dir=nowhere", FIRST])).toMatchObject({
    status: 1,
    stderr: `# gomote gettar: Cannot read nowhere of ${FIRST}: There is no "nowhere" on ${FIRST}: it was deleted, or has another name.\n`,
  });
  expect((await gomote(["gettar", "-dir=from-file/deep/a b", FIRST])).stderr).toContain("it is a file");
});

test("two machines are set up, worked with as a group, and collected from", { timeout: 180_000 }, async () => {
  await using farm = await LentFarm.start({ machines: 2 });
  const computer = await Computer.loggedIn(farm);
  const { gomote, cwd } = bound(computer);
  const make = '#!/bin/sh\ncd "$(dirname "$0")/.." && echo "building in $PWD" && mkdir -p bin && echo built > bin/go\n';
  const tree = {
    "src/make.bash": make,
    "src/internal/goversion/goversion.go": "package goversion\n\nconst Version = 27\n",
    "src/fmt/print.go": "package fmt\n",
  };
  for (const [name, text] of Object.entries(tree)) {
    await mkdir(dirname(join(cwd, name)), { recursive: true });
    await writeFile(join(cwd, name), text);
  }
  await chmod(join(cwd, "src/make.bash"), 0o755);
  execFileSync("git", ["-C", cwd, "init", "-q"]);

  const created = await gomote(["create", "-status=false", "-setup", "-count=2", "-new-group=g", TYPE]);
  expect([created.status, created.stdout.split("\n").sort()]).toEqual([0, ["", FIRST, SECOND]]);
  expect((await gomote(["group", "list"])).stdout).toBe(`Name\tInstances\t\ng\t${FIRST}\t\n\t${SECOND}\t\n`);

  const env = { GOMOTE_GROUP: "g" };
  const built = await gomote(["run", "/bin/cat", "go/VERSION", "go/bin/go"], { env });
  expect(built.stdout.split("\n").sort()).toEqual([
    "",
    ...[FIRST, SECOND].map((id) => `${id}: go1.27-devel_gomotebuilt`),
  ]);
  // What fails on one goes on on the other, and the worst status is the answer.
  const mine = `case $PWD in *work-1*) echo one; exit 3;; *) echo two;; esac`;
  const some = await gomote(["-group=g", "run", "-system", "/bin/sh", "-c", mine]);
  expect([
    some.status,
    some.stdout
      .replaceAll(/^alice-\S+: /gm, "")
      .split("\n")
      .sort(),
  ]).toEqual([3, ["", "one", "two"]]);
  expect(some.stderr).toMatch(/^# output goes to \/\S+\n# alice-\S+: exit status 3\n$/);

  expect((await gomote(["push", FIRST])).stderr).toContain("go/ is as it is here already");
  const counting = ["/bin/sh", "-c", "echo x >> n; echo $(wc -l < n) times"];
  const counted = await gomote(["run", "-system", "-until=^3 times", "-collect", FIRST, ...counting]);
  expect([counted.status, counted.stdout]).toEqual([0, "1 times\n2 times\n3 times\n"]);
  expect(await readFile(join(cwd, `${FIRST}.stdout`), "utf8")).toBe("3 times\n");
  expect(execFileSync("tar", ["-xzOf", join(cwd, `${FIRST}.tar.gz`), "n"], { encoding: "utf8" })).toBe("x\nx\nx\n");

  expect((await gomote(["-group=g", "destroy", "-destroy-group"])).status).toBe(0);
  expect((await gomote(["group", "list"])).stdout).toBe("Name\tInstances\t\n(none)\t\t\n");
  expect(await readdir(join(computer.home, ".config/gomote/groups"))).toEqual([]);
});

test("a build that failed is laid out with commands that repeat it, and one that fails is kept as it is", {
  timeout: 180_000,
}, async () => {
  await using repository = await Repository.make();
  await using farm = await LentFarm.start({
    repos: [{ name: "app", url: repository.path, poll: "1s" }],
    builders: [
      {
        name: "linux-amd64-lent",
        host: TYPE,
        env: { CONFIG: "two words" },
        steps: [
          "./make.sh",
          {
            name: "check",
            command: ["./check.sh", "it's"],
            dir: "tests",
            env: { LEVEL: "$HOME" },
            path: ["$WORKDIR/app", "$PATH"],
          },
        ],
      },
    ],
  });
  const computer = await Computer.loggedIn(farm);
  const { gomote } = bound(computer);
  const go = join(farm.folder, "go");
  await repository.commit("First", {
    "make.sh": '#!/bin/sh\necho "$CONFIG" > made\n',
    "tests/check.sh": `#!/bin/sh\necho "$(cat ../made), $LEVEL, $1, $GO_BUILDER_NAME"; echo left > left; until [ -e ${go} ]; do sleep 0.05; done; exit 4\n`,
  });
  // The machine of a build that still runs.
  await farm.coordinator.says(/A build began/);
  const held = computer.begin(["repro", "-hold", "1"]);
  await held.says(/build 1: its machine becomes yours when it fails/);
  await writeFile(go, "");
  expect(await held.exited, held.output).toBe(0);
  const [, id = ""] = /^(alice-\S+)$/m.exec(held.output) ?? [];
  expect((await gomote(["run", "-system", id, "/bin/sh", "-c", "cat */tests/left"])).stdout).toBe("left\n");
  expect((await gomote(["destroy", id])).status).toBe(0);

  // A fresh one, and what is printed is typed in.
  const laid = await gomote(["repro", "-status=false", `${farm.http}/b/1`]);
  expect(laid.status, laid.stderr).toBe(0);
  const [created, ...lines] = laid.stdout.trimEnd().split("\n");
  expect([created, lines.length]).toEqual(["alice-linux-amd64-lent-0", 2]);
  expect(laid.stderr).toContain('"check" failed');
  const PATH = `${dirname(computer.program)}:${dirname(process.execPath)}:${process.env.PATH}`;
  const typed = async (line = "") => {
    const options = { env: { ...process.env, ...computer.env, PATH }, cwd: computer.cwd };
    return await execute("sh", ["-c", line], options).then(
      ({ stdout }) => [0, stdout],
      ({ code, stdout }) => [code, stdout],
    );
  };
  expect(await typed(lines[0])).toEqual([0, ""]);
  expect(await typed(lines[1])).toEqual([4, "two words, $HOME, it's, linux-amd64-lent\n"]);
  expect((await gomote(["repro", "-hold", "1"])).stderr).toMatch(
    /^# gomote repro: Cannot hold the machine of build 1: (?!Cannot)/m,
  );
});

test("Ctrl-C stops the command on the machine, whoever reads what it prints, and a second one leaves at once", {
  timeout: 120_000,
}, async () => {
  await using farm = await LentFarm.start();
  const computer = await Computer.loggedIn(farm);
  const { gomote } = bound(computer);
  await gomote(["create", "-status=false", TYPE]);
  const word = `gomote-stop-${process.pid}`;
  const gone = () =>
    until(
      async () => (await processesWith(word)).length === 0,
      20_000,
      () => `${word} to end`,
    );

  await using once = computer.begin([
    "run",
    "-system",
    FIRST,
    "/bin/sh",
    "-c",
    `trap "" INT TERM; echo on; exec yes ${word}`,
  ]);
  await once.says(/on\n/);
  once.child.stdout?.pause(); // as a pager does that shows its first page
  once.kill("SIGINT");
  await new Promise((ended) => once.child.once("exit", ended));
  expect(once.child.exitCode).toBe(130);
  await gone();

  await using other = computer.begin([
    "run",
    "-system",
    FIRST,
    "/bin/sh",
    "-c",
    `echo on; exec yes ${word} > /dev/null`,
  ]);
  await other.says(/on\n/);
  const listed = await gomote(["ps"]);
  const [, number = ""] =
    new RegExp(`^(\\d+)\t${FIRST}\trunning \\d+s\t/bin/sh -c echo on; exec yes ${word} > /dev/null$`, "m").exec(
      listed.stdout,
    ) ?? [];
  expect(await gomote(["kill", FIRST, number])).toEqual(silent);
  expect([await other.exited, other.output]).toEqual([137, expect.stringContaining("it was killed by whoever ran it")]);
  await gone();
  // What ended is noted a moment after whoever ran it hears.
  await until(
    async () => (await gomote(["ps", FIRST])).stdout === "",
    20_000,
    () => "nothing to run any more",
  );
  expect((await gomote(["ps", "-a", FIRST])).stdout).toContain(
    `${number}\t${FIRST}\tit was killed by whoever ran it\t`,
  );
  expect((await gomote(["kill", FIRST, "x"])).stderr).toContain('There is no command "x"');

  await using twice = computer.begin([
    "run",
    "-system",
    FIRST,
    "/bin/sh",
    "-c",
    `echo on; exec yes ${word} > /dev/null`,
  ]);
  await twice.says(/on\n/);
  farm.coordinator.kill("SIGSTOP");
  twice.kill("SIGINT");
  twice.kill("SIGINT");
  expect(await twice.exited).toBe(130);
  farm.coordinator.kill("SIGCONT");
  await gone();
  expect((await gomote(["ping", "-strict", FIRST])).status).toBe(0);
});

test("a command whose coordinator ends says so, with what to do, and does not end as a command does", {
  timeout: 120_000,
}, async () => {
  await using farm = await LentFarm.start();
  const computer = await Computer.loggedIn(farm);
  const { gomote } = bound(computer);
  await gomote(["create", "-status=false", TYPE]);
  await using run = computer.begin(["run", "-system", FIRST, "/bin/sh", "-c", "echo on; exec sleep 1000"]);
  await run.says(/on\n/);
  farm.coordinator.kill("SIGTERM");
  expect(await run.exited).toBe(255);
  // The answer may be overtaken by the end of the connection.
  const said =
    "The coordinator is stopping, and what it ran ends with it;|the connection to \\S+ was lost .*`gomote ps \\S+`";
  expect(run.output).toMatch(new RegExp(`# gomote run: Cannot run /bin/sh on ${FIRST}: (${said}).* run it again`));
});

test("a farm that does not answer, a port that nobody has, and a token that is good no more are said in time", {
  timeout: 180_000,
}, async () => {
  await using farm = await LentFarm.start();
  const computer = await Computer.loggedIn(farm);
  const { gomote } = bound(computer);

  const port = await freePort();
  expect(await gomote([`-server=localhost:${port}`, "list"])).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(`^# gomote list: Cannot talk to localhost:${port}: .*ECONNREFUSED`),
  });
  const expired = { GOMOTE_TOKEN: await farm.token("-expires", "1s") };
  await until(
    async () => (await gomote(["list"], { env: expired })).status !== 0,
    20_000,
    () => "the token to expire",
  );
  expect(await gomote(["list"], { env: expired })).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      /^# gomote list: Cannot let you in with this token: .* expired on \d{4}-\d\d-\d\d.*log in again/,
    ),
  });

  farm.coordinator.kill("SIGSTOP");
  const stopped = await gomote(["run", FIRST, "true"]);
  farm.coordinator.kill("SIGCONT");
  expect(stopped).toMatchObject({ status: 255, stdout: "" });
  // Both have the same limit: the call, and dialling for it.
  const late = `Cannot talk to ${farm.address}: .* 30 s|${farm.address} did not answer in time`;
  expect(stopped.stderr).toMatch(new RegExp(`^# gomote run: .*(${late})`));
  expect((await gomote(["list"])).status).toBe(0);
});

const silent = { status: 0, stdout: "", stderr: "" };

function bound(computer: Computer) {
  return { cwd: computer.cwd, gomote: computer.gomote.bind(computer) };
}

/** One on which nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}
