import { mkdir, readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join, relative as relativePath, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { CommandExitSchema } from "../wire/gomote/gen/barnraiser_pb.ts";
import type { Instance } from "../wire/gomote/gen/gomote_pb.ts";
import { Stopped } from "./stopped.ts";
import { FakeFarm, type FakeFarmOptions } from "./testing/fake-farm.ts";
import { TestComputer } from "./testing/typed.ts";

async function start(options: FakeFarmOptions = {}) {
  await using stack = new AsyncDisposableStack();
  const farm = stack.use(await FakeFarm.start(options));
  const computer = stack.use(await TestComputer.start(farm));
  const moved = stack.move();
  return { farm, computer, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

const groupFiles = async (computer: TestComputer, name: string) =>
  (await readdir(join(computer.config, "groups", `${name}.instances`))).filter((file) => !file.startsWith("."));

test("create prints ids alone on stdout, and says how many are ahead", async () => {
  await using t = await start({ ahead: [3, 1] });
  expect((await t.computer.gomote(["create", "-list"])).stdout).toBe("linux-amd64\nlinux-arm64\n");
  const { status, stdout, stderr } = await t.computer.gomote(["create", "linux-amd64"]);
  expect([status, stdout]).toEqual([0, "alice-linux-amd64-0\n"]);
  expect(stderr.split("\n")).toEqual([
    "# still creating linux-amd64 (1) after 0s; 3 ahead of it",
    "# still creating linux-amd64 (1) after 0s; 1 ahead of it",
    "",
  ]);
  const more = await t.computer.gomote(["create", "-status=false", "-count=2", "-new-group=pair", "linux-amd64"]);
  expect([more.stdout.split("\n").sort(), more.stderr]).toEqual([
    ["", "alice-linux-amd64-1", "alice-linux-amd64-2"],
    "",
  ]);
  expect(await groupFiles(t.computer, "pair")).toEqual(["alice-linux-amd64-1", "alice-linux-amd64-2"]);
  expect(await t.computer.gomote(["create", "nope"])).toEqual({
    status: 1,
    stdout: "",
    stderr: '# gomote create: Cannot create an instance of nope: unknown builder type "nope"\n',
  });
  expect((await t.computer.gomote(["create"])).status).toBe(1);
});

test("[gomote 48] create makes the group that GOMOTE_GROUP names, with one empty file named by the id", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "linux-amd64"], { env: { GOMOTE_GROUP: "g" } });
  expect(await groupFiles(t.computer, "g")).toEqual(["alice-linux-amd64-0"]);
  expect((await stat(join(t.computer.config, "groups", "g.instances", "alice-linux-amd64-0"))).size).toBe(0);
});

test("[gomote 49] group list shows the members that live, and files of dead ones go, but not while another farm is asked", async () => {
  await using t = await start();
  const env = { GOMOTE_GROUP: "g" };
  await t.computer.gomote(["create", "-count=2", "linux-amd64"], { env });
  t.farm.instances.delete("alice-linux-amd64-1");
  await using other = await FakeFarm.start();
  const elsewhere = await t.computer.gomote(["group", "list"], {
    env: { GOMOTE_SERVER: other.name, GOMOTE_CA_FILE: other.caFile },
  });
  expect(elsewhere.stdout).toBe("Name\tInstances\t\ng\t(none)\t\n");
  expect(await groupFiles(t.computer, "g")).toHaveLength(2);
  expect((await t.computer.gomote(["group", "list"])).stdout).toBe("Name\tInstances\t\ng\talice-linux-amd64-0\t\n");
  expect(await groupFiles(t.computer, "g")).toEqual(["alice-linux-amd64-0"]);
});

test("[gomote 50] a group that is given has to be there, one that only the environment names does not", async () => {
  await using t = await start();
  const given = await t.computer.gomote(["-group=nope", "list"]);
  expect([given.status, given.stderr]).toEqual([1, expect.stringContaining('there is no group "nope"')]);
  expect(given.stderr).toContain("usage: gomote list");
  expect((await t.computer.gomote(["list"], { env: { GOMOTE_GROUP: "nope" } })).status).toBe(0);
  const escaping = await t.computer.gomote(["-group=../x", "list"]);
  expect([escaping.status, escaping.stderr]).toEqual([1, expect.stringContaining('Cannot use the group name "../x"')]);
});

test("[gomote 51] destroy -destroy-group ends all members and removes the group; destroy takes an id out of its groups", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-count=3", "-new-group=g", "linux-amd64"]);
  await t.computer.gomote(["destroy", "alice-linux-amd64-1"]);
  expect(await groupFiles(t.computer, "g")).toEqual(["alice-linux-amd64-0", "alice-linux-amd64-2"]);
  const { status } = await t.computer.gomote(["-group=g", "destroy", "-destroy-group"]);
  expect([status, t.farm.instances.size, await readdir(join(t.computer.config, "groups"))]).toEqual([0, 0, []]);
  await t.farm.instance();
  const nothing = await t.computer.gomote(["destroy"]);
  expect([nothing.status, nothing.stdout]).toEqual([1, "possible instances:\n\talice-linux-amd64-0\n"]);
});

test("[gomote 52] ping says on stderr who lives, and exits 0 but with -strict", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  expect(await t.computer.gomote(["ping", id])).toEqual({ status: 0, stdout: "", stderr: `# ${id}: alive\n` });
  const dead = { status: 0, stdout: "", stderr: "# x: there is no such instance\n" };
  expect(await t.computer.gomote(["ping", "x"])).toEqual(dead);
  expect(await t.computer.gomote(["ping", "-strict", "x"])).toEqual({ ...dead, status: 1 });
});

test("[gomote 53] list has three TABs in each line, the groups, and the time that is left; it pings nobody", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-new-group=g", "linux-amd64"]);
  expect((await t.computer.gomote(["list"])).stdout).toMatch(
    /^alice-linux-amd64-0 \(g\)\tlinux-amd64\thost-linux\texpires in (30m0s|29m5\ds)\n$/,
  );
});

test("groups are made, filled, emptied and removed", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const group = (...args: string[]) => t.computer.gomote(["group", ...args]);
  expect((await group("list")).stdout).toBe("Name\tInstances\t\n(none)\t\t\n");
  expect((await group("create", "g")).status).toBe(0);
  expect((await group("create", "g")).stderr).toContain('Cannot create group "g": there is one');
  const active = { env: { GOMOTE_GROUP: "g" } };
  expect((await t.computer.gomote(["group", "add", id], active)).status).toBe(0);
  expect((await t.computer.gomote(["group", "add", "x"], active)).stderr).toContain('Cannot add "x"');
  expect((await group("add", id)).stderr).toContain("want a group");
  expect((await t.computer.gomote(["group", "remove", id], active)).status).toBe(0);
  expect((await group("list")).stdout).toBe("Name\tInstances\t\ng\t(none)\t\n");
  expect((await t.computer.gomote(["group", "destroy", "g"], active)).stderr).toContain("GOMOTE_GROUP still names it");
  expect((await group("destroy", "g")).status).toBe(1);
  expect([(await group()).status, (await group("nope")).status]).toEqual([1, 1]);
});

test("[gomote 18] run shows and keeps what a command prints; its exit status is the command's", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  expect(await t.computer.gomote(["run", id, "/bin/echo", "hello"])).toMatchObject({ status: 0, stdout: "hello\n" });
  const [folder = ""] = await readdir(join(t.computer.home, "temp"));
  expect(await readFile(join(t.computer.home, "temp", folder, `${id}.stdout`), "utf8")).toBe("hello\n");
  expect(await t.computer.gomote(["run", id, "sh", "-c", "echo out; exit 3"])).toEqual({
    status: 3,
    stdout: "out\n",
    stderr: `# ${id}: exit status 3\n`,
  });
  expect((await t.computer.gomote(["run", id, "sh", "-c", "kill -9 $$"])).status).toBe(137);
  expect((await t.computer.gomote(["run", id, "no-such-command"])).status).toBe(127);
  expect(await t.computer.gomote(["run", "x", "true"])).toMatchObject({
    status: 255,
    stderr: expect.stringContaining('Cannot find instance "x", and there is no group'),
  });
});

test("[gomote 21] in a group all commands end, the one that failed is named, and the worst status is the answer", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-count=2", "-new-group=g", "linux-amd64"]);
  await writeFile(join(t.farm.work("alice-linux-amd64-1"), "bad"), "");
  const { status, stdout, stderr } = await t.computer.gomote([
    "-group=g",
    "run",
    "sh",
    "-c",
    "printf out; if [ -e bad ]; then exit 5; fi; sleep 0.2; echo put; echo good > done",
  ]);
  expect(status).toBe(5);
  expect(stdout.split("\n").sort()).toEqual(["", "alice-linux-amd64-0: output", "alice-linux-amd64-1: out"]);
  expect(stderr).toContain("# alice-linux-amd64-1: exit status 5\n");
  expect(await readFile(join(t.farm.work("alice-linux-amd64-0"), "done"), "utf8")).toBe("good\n");
});

test("in a group the others go on when somebody ends the command of one, and it is said who did", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-count=2", "-new-group=g", "linux-amd64"]);
  const who = "it was killed by an operator";
  const value = { exitStatus: 137, processState: who };
  t.farm.ends.set(
    "alice-linux-amd64-1",
    new ConnectError(who, Code.Aborted, undefined, [{ desc: CommandExitSchema, value }]),
  );
  const said = await t.computer.gomote(["-group=g", "run", "sh", "-c", "sleep 0.2; echo good"]);
  expect([said.status, said.stdout]).toEqual([137, "alice-linux-amd64-0: good\n"]);
  expect(said.stderr).toContain(`# alice-linux-amd64-1: ${who}\n`);
});

test("in a group the others go on when an instance ends, and it is never taken for the end of its command", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-count=2", "-new-group=g", "linux-amd64"]);
  const gone = "The instance has ended: its owner destroyed it.";
  t.farm.ends.set("alice-linux-amd64-1", new ConnectError(gone, Code.NotFound));
  for (const until of [[], ["-until=good"]]) {
    const said = await t.computer.gomote(["-group=g", "run", ...until, "sh", "-c", "sleep 0.2; echo good"]);
    expect([said.status, said.stdout]).toEqual([255, "alice-linux-amd64-0: good\n"]);
    expect(said.stderr).toContain(`# gomote run: Cannot run sh on alice-linux-amd64-1: ${gone}\n`);
  }
});

test("a reader slower than the disk gets all of much output, and no listener is left behind", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const warnings: Error[] = [];
  const warned = (warning: Error) => void warnings.push(warning);
  process.on("warning", warned);
  let bytes = 0;
  const onData = async (piece: string) => {
    bytes += piece.length;
    await setTimeout(2);
  };
  const { status } = await t.computer.gomote(["run", "-system", id, "head", "-c", "20000000", "/dev/zero"], { onData });
  process.off("warning", warned);
  expect([status, bytes, warnings]).toEqual([0, 20_000_000, []]);
});

test("what a farm answered, that a call was canceled as well, is never taken for a lost connection", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const trouble = async (code: Code) => {
    t.farm.ends.set(id, new ConnectError("somebody ended it", code));
    const { status, stderr } = await t.computer.gomote(["run", id, "true"]);
    return [status, stderr];
  };
  expect(await trouble(Code.Canceled)).toEqual([255, `# gomote run: Cannot run true on ${id}: somebody ended it\n`]);
  expect(await trouble(Code.Unauthenticated)).toEqual([255, expect.stringMatching(/somebody ended it.*gomote login/)]);
  t.farm.ends.set(id, new ConnectError("Cannot let you in: bob was removed.", Code.Unauthenticated));
  expect((await t.computer.gomote(["run", id, "true"])).stderr).toBe(
    "# gomote run: Cannot let you in: bob was removed.\n",
  );
});

test("[gomote 22] [gomote 24] flags of run go into the request", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  await t.computer.gomote([
    "run",
    "-e",
    "A=B",
    "-firewall",
    "-path=$WORKDIR/bin,$PATH",
    "-dir=d",
    "-debug",
    id,
    "/bin/echo",
    "-n",
    "x",
  ]);
  expect(t.farm.lastCommand).toMatchObject({
    appendEnvironment: ["A=B", "GO_DISABLE_OUTBOUND_NETWORK=true"],
    path: ["$WORKDIR/bin", "$PATH"],
    directory: "d",
    debug: true,
    systemLevel: true,
    command: "/bin/echo",
    args: ["-n", "x"],
  });
  expect((await t.computer.gomote(["run", "-e", "A", id, "true"])).stderr).toContain('want KEY=VALUE for -e, not "A"');
});

test("run -until goes on until the output matches; -collect fetches the work dir", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const counting = "echo x >> n; wc -l < n";
  expect(
    (await t.computer.gomote(["run", "-until=^ *3", "-collect", id, "sh", "-c", counting])).stdout.trim().split(/\s+/),
  ).toEqual(["1", "2", "3"]);
  expect((await readdir(t.computer.cwd)).sort()).toEqual([`${id}.stdout`, `${id}.tar.gz`]);
  expect(gunzipSync(await readFile(join(t.computer.cwd, `${id}.tar.gz`))).toString("latin1")).toContain("x\nx\nx\n");
  expect((await t.computer.gomote(["run", "-until=(", id, "true"])).status).toBe(1);
});

test("run -until refuses what no line could match; run -collect that could not fetch is no success", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  for (const until of ["ok\\n", "a\nb", "(?s)a.*b", "a(?s:.*)b", "a[\\s\\S]*b", "a[^]*b"])
    expect((await t.computer.gomote(["run", `-until=${until}`, id, "true"])).stderr).toContain(
      `cannot use -until ${JSON.stringify(until)}: it is for several lines`,
    );
  for (const until of ["ok[^\\n]*$", "C:\\\\new", "(?i)OK\\s", "[\\s.]"])
    expect((await t.computer.gomote(["run", `-until=${until}`, id, "echo", "ok  C:\\new"])).status).toBe(0);
  const said = await t.computer.gomote(["run", "-collect", id, "sh", "-c", 'rm -rf "$PWD"']);
  expect([said.status, said.stderr]).toEqual([255, expect.stringContaining(`# ${id}: Cannot read . of ${id}: `)]);
});

test("what this computer refuses is said in a line", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const said = await t.computer.gomote(["run", "-collect", id, "true"], { cwd: join(t.computer.home, "nope") });
  expect([said.status, said.stderr.split("\n").at(-2)]).toEqual([
    255,
    expect.stringMatching(/^# gomote run: Cannot open .*nope.*: no such file or directory$/),
  ]);
  expect((await t.computer.gomote(["put", id, "nope"])).stderr).toBe(
    `# gomote put: Cannot read ${t.computer.cwd}/nope: no such file or directory\n`,
  );
  expect((await t.computer.gomote(["push", id], { env: { GOROOT: "/nope" } })).stderr).toBe(
    "# gomote push: Cannot push $GOROOT: there is no folder /nope; give -from=DIR, or unset it\n",
  );
  await writeFile(join(t.computer.home, ".config"), "");
  expect((await t.computer.gomote(["group", "create", "g"])).stderr).toMatch(
    /^# gomote group: Cannot mkdir .*: not a directory$/m,
  );
});

test("[gomote 23] Ctrl-C stops the command on the instance", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const stop = new AbortController();
  const said = await t.computer.gomote(["run", id, "sh", "-c", "echo on; exec sleep 1000"], {
    signal: stop.signal,
    onData: () => stop.abort(new Stopped("SIGINT")),
  });
  expect([said.status, said.stdout]).toEqual([130, "on\n"]);
  await t.farm.killed;
});

test("a command makes one connection, whatever it asks for", async () => {
  await using t = await start();
  await t.computer.gomote(["create", "-count=3", "-new-group=g", "linux-amd64"]);
  t.farm.connections = 0;
  await t.computer.gomote(["-group=g", "run", "true"]);
  expect(t.farm.connections).toBe(1);
});

test("put, puttar, gettar, ls and rm move files", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const work = t.farm.work(id);
  await writeFile(join(t.computer.cwd, "tool"), "#!/bin/sh\n", { mode: 0o755 });
  expect((await t.computer.gomote(["put", id, "tool"])).status).toBe(0);
  expect((await stat(join(work, "tool"))).mode & 0o777).toBe(0o755);
  await t.computer.gomote(["put", "-mode=600", id, "-", "secret"], { stdin: "typed" });
  expect(await readFile(join(work, "secret"), "utf8")).toBe("typed");
  expect(t.farm.calls).toEqual(["upload", "write tool 755", "upload", "write secret 600"]);
  expect((await t.computer.gomote(["put", id, "-"])).status).toBe(1);
  expect((await t.computer.gomote(["put", "-mode=9", id, "tool"])).status).toBe(1);
  expect((await t.computer.gomote(["ls", id])).stdout).toMatch(
    /^-rw-------\tsecret\t5\t\S+Z\n-rwxr-xr-x\ttool\t10\t\S+Z\n$/,
  );
  expect((await t.computer.gomote(["gettar", id])).status).toBe(0);
  expect((await t.computer.gomote(["puttar", "-dir=copy", id, `${id}.tar.gz`])).status).toBe(0);
  expect(await readFile(join(work, "copy", "secret"), "utf8")).toBe("typed");
  t.farm.calls.length = 0;
  await t.computer.gomote(["puttar", id, "0123456789abcdef"]);
  const archive = "https://go.googlesource.com/go/+archive/0123456789abcdef.tar.gz";
  expect(t.farm.calls).toEqual(["upload", `unpack ${archive}`, "unpack "]);
  expect(await readFile(join(work, "VERSION"), "utf8")).toBe("devel 0123456789abcdef");
  await t.computer.gomote(["rm", id, "copy", "tool", "VERSION"]);
  expect(await readdir(work)).toEqual(["secret"]);
  expect([(await t.computer.gomote(["rm"])).status, (await t.computer.gomote(["rm", id])).status]).toEqual([1, 1]);
  expect((await t.computer.gomote(["ls", "x"])).status).toBe(1);
});

test("ps and kill say where a farm has no such thing, and what they want", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  expect((await t.computer.gomote(["ps"])).stderr).toBe(
    "# gomote ps: Cannot list commands: this farm does not offer that\n",
  );
  expect((await t.computer.gomote(["kill", id, "1"])).stderr).toContain("this farm does not offer that");
  expect((await t.computer.gomote(["kill", id])).stderr).toContain("want an instance and the numbers of its commands");
});

test("repro lays a build out and prints a command for each step; -hold is refused where it is not offered", async () => {
  await using t = await start({ own: true });
  const { status, stdout, stderr } = await t.computer.gomote(["repro", "-public=false", "7"]);
  const gomote = `gomote -server=${t.farm.name} -ca-file=${t.farm.caFile}`; // for any shell
  expect([status, stdout.split("\n")]).toEqual([
    0,
    [
      "alice-linux-amd64-0",
      `${gomote} run -dir=src '-path=$WORKDIR/bin,$PATH' -e A=1 -e 'B=two words' alice-linux-amd64-0 ./make.bash`,
      `${gomote} run -dir=src '-path=$WORKDIR/bin,$PATH' -e A=1 -e 'B=two words' alice-linux-amd64-0 go test ./...`,
      "",
    ],
  ]);
  expect(t.farm.calls).toEqual(["create linux-amd64", "lay out 7 on alice-linux-amd64-0"]);
  expect(stderr.split("\n").slice(1, -1)).toEqual([
    '# alice-linux-amd64-0: the commands repeat the steps of the build; "test" failed',
  ]);
  expect((await t.computer.gomote(["repro", "-hold", "7"])).stderr).toContain(
    "Cannot hold a machine: this farm does not offer that",
  );
  expect((await t.computer.gomote(["repro", "8"])).stderr).toContain("no build 8");
  expect([(await t.computer.gomote(["repro"])).status, (await t.computer.gomote(["repro", "x"])).status]).toEqual([
    1, 1,
  ]);
  await using original = await start();
  expect((await original.computer.gomote(["repro", "7"])).stderr).toContain("does not offer that");
});

test("ssh is run with the certificate and the gateway that the farm names; -config prints the same for other programs", async () => {
  await using t = await start({ own: true });
  const id = await t.farm.instance();
  const bin = join(t.computer.home, "bin");
  await mkdir(bin);
  const script = '#!/bin/sh\nfor a; do echo "$a"; done > $HOME/said\nexit 9\n';
  await writeFile(join(bin, "ssh"), script, { mode: 0o755 });
  await mkdir(join(t.computer.config, ".ssh"), { recursive: true });
  for (const [name, text] of [
    ["id_ed25519", "private"],
    ["id_ed25519.pub", "public\n"],
  ] as const)
    await writeFile(join(t.computer.config, ".ssh", name), text);
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const before = { PATH: process.env.PATH, HOME: process.env.HOME };
  Object.assign(process.env, env, { HOME: t.computer.home }); // ssh is found as any program is
  const { status } = await t.computer.gomote(["ssh", id, "-L", "1:localhost:2", "uname", "-a"], { env });
  Object.assign(process.env, before);
  expect(status).toBe(9);
  const said = (await readFile(join(t.computer.home, "said"), "utf8")).split("\n");
  const folder = join(t.computer.config, "servers", t.farm.name.replace(":", "_"));
  const key = join(t.computer.config, ".ssh", "id_ed25519");
  const settings = [
    ["CertificateFile", `"${folder}/${id}-cert.pub"`],
    ["IdentityFile", `"${key}"`],
    ["IdentitiesOnly", "yes"],
    ["Port", "2022"],
    ["UserKnownHostsFile", `"${folder}/known_hosts"`],
    ["StrictHostKeyChecking", "yes"],
    ["HostKeyAlias", "gomote-gateway"],
  ] as const;
  const words = [...settings.flatMap(([name, value]) => ["-o", `${name}=${value}`]), "-L", "1:localhost:2"];
  expect(said).toEqual([...words, `${id}@localhost`, "uname", "-a", ""]);
  expect(await readFile(join(folder, `${id}-cert.pub`), "utf8")).toBe("signed public\n");
  expect(await readFile(join(folder, "known_hosts"), "utf8")).toBe("gomote-gateway ssh-ed25519 AAAA\n");
  const { stdout } = await t.computer.gomote(["ssh", "-config", id]);
  expect(stdout.split("\n")).toEqual([
    `Match originalhost "${id}" exec "gomote -server=${t.farm.name} -ca-file=${t.farm.caFile} ssh -config ${id}"`,
    "  HostName localhost",
    `  User ${id}`,
    ...settings.map(([name, value]) => `  ${name} ${value}`),
    "",
  ]);
  expect((await t.computer.gomote(["ssh", "-config", id, "ls"])).stderr).toContain("want the instance alone");
  const [old, lately] = ["alice-linux-amd64-8", "alice-linux-amd64-9"].map((one) => join(folder, `${one}-cert.pub`));
  const age = async (path = "", hours = 0) => {
    const then = new Date(Date.now() - hours * 3_600_000);
    await writeFile(path, "signed");
    await utimes(path, then, then);
  };
  await age(old, 25);
  await age(lately, 23);
  await t.computer.gomote(["ssh", "-config", id]);
  expect((await readdir(folder)).sort()).toEqual([
    "alice-linux-amd64-0-cert.pub",
    "alice-linux-amd64-9-cert.pub",
    "known_hosts",
  ]);
  const renewed = async (args: readonly string[], env: { readonly [name: string]: string }) =>
    / exec "(.*)"$/m.exec((await t.computer.gomote([...args, id], { env })).stdout)?.[1];
  const relative = { GOMOTE_CA_FILE: relativePath(process.cwd(), t.farm.caFile) };
  expect(await renewed(["ssh", "-config", "-gateway=[::1]:22"], relative)).toBe(
    `gomote -server=${t.farm.name} -ca-file=${resolve(t.computer.cwd, relative.GOMOTE_CA_FILE)} ssh -config '-gateway=[::1]:22' ${id}`,
  );
  await writeFile(join(folder, "ca.pem"), await readFile(t.farm.caFile)); // as `login` does
  expect(await renewed(["ssh", "-config"], { GOMOTE_CA_FILE: "" })).toBe(
    `gomote -server=${t.farm.name} -ca-file=${join(folder, "ca.pem")} ssh -config ${id}`,
  );
  for (const wrong of ["x\n  ProxyCommand y", "*", "-oProxyCommand=y"]) {
    const said = await t.computer.gomote(["ssh", "-config", wrong]);
    expect([said.status, said.stdout]).toEqual([1, ""]);
  }
});

test("ssh finds the instances of people with any name that the farm takes", async () => {
  await using t = await start({ own: true });
  for (const id of ["a~b-linux-amd64-0", "a@b-linux-amd64-0"]) {
    t.farm.instances.set(id, { ...(t.farm.instances.get(await t.farm.instance()) as Instance), gomoteId: id });
    expect((await t.computer.gomote(["ssh", "-config", id])).stdout).toContain(`\n  User ${id}\n`);
  }
});

test("an instance of a group whose id would be an option of ssh is not named to it", async () => {
  await using t = await start({ own: true });
  const id = "-oProxyCommand=x";
  t.farm.instances.set(id, { ...(t.farm.instances.get(await t.farm.instance()) as Instance), gomoteId: id });
  await mkdir(join(t.computer.config, "groups", "g.instances"), { recursive: true });
  await writeFile(join(t.computer.config, "groups", "g.instances", id), "");
  const { status, stderr } = await t.computer.gomote(["-group=g", "ssh"]);
  expect([status, stderr]).toEqual([
    1,
    `# gomote ssh: Cannot name "${id}" to ssh: want letters, digits and . _ + = ~ @ -\n`,
  ]);
});
