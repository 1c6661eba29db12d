/** The command as a developer has it, fetched from a farm of real processes, with a real machine; nothing is imported from it. */
import { execFileSync } from "node:child_process";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { Process } from "./testing/process.ts";
import { temporaryFolder } from "./testing/repository.ts";

const TYPE = "host-linux-amd64-lent";

interface Said {
  readonly status: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** A farm with one machine, which is lent to its members. */
async function farm(stack: AsyncDisposableStack) {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const config = join(folder, "farm.config.ts");
  const host = { hostType: TYPE, trust: "team", gomote: "members" };
  await writeFile(config, `export default ${JSON.stringify({ repos: [], hosts: [host], builders: [] })};\n`);
  const data = join(folder, "farm");
  const flags = ["-config", config, "-data", data, "-listen", "localhost:0", "-http", "localhost:0"];
  const coordinator = stack.use(Process.program("coordinator.js", flags));
  await coordinator.says(/The farm runs/);
  const { https } = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8")) as { https: string };
  const address = `localhost:${new URL(https).port}`;
  const caFile = join(data, "tls", "ca.pem");
  const beside = async (program: string, ...given: string[]) => {
    await using run = Process.program(program, ["-data", data, ...given]);
    expect(await run.exited, run.output).toBe(0);
    return run.output;
  };
  await mkdir(join(folder, "work"));
  const machine = stack.use(
    Process.program(
      "agents/buildlet.mjs",
      [
        `-coordinator=${address}`,
        `-ca-file=${caFile}`,
        `-reverse-type=${TYPE}`,
        `-workdir=${join(folder, "work")}`,
        "-halt=false",
        "-health-addr=",
      ],
      {
        env: {
          HOME: folder,
          GO_BUILD_KEY_PATH: await keyFile(folder, await beside("genbuilderkey.js", "-config", config, TYPE)),
        },
      },
    ),
  );
  await machine.says(/Registered/);
  await beside("coordinator.js", "-add-user", "alice@example.org", "-roles", "member");
  const made = await beside("coordinator.js", "-new-token", "alice@example.org", "-name", "laptop");
  return { folder, address, caFile, token: made.split("\n", 1)[0] ?? "" };
}

async function keyFile(folder: string, key: string): Promise<string> {
  const path = join(folder, "key");
  await writeFile(path, key, { mode: 0o600 });
  return path;
}

/** What `curl --cacert` does. */
async function fetched(url: string, ca: string): Promise<string> {
  const response = await new Promise<Parameters<typeof text>[0]>((done, failed) =>
    get(url, { ca }, done).once("error", failed),
  );
  return await text(response);
}

test("a developer fetches gomote, logs in, and has a machine: run, ls, push, ping, rm, destroy", {
  timeout: 300_000,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const { folder, address, caFile, token } = await farm(stack);
  const program = join(folder, "gomote");
  await writeFile(program, await fetched(`https://${address}/gomote.mjs`, await readFile(caFile, "utf8")));
  await chmod(program, 0o755);
  const home = join(folder, "home");
  const repository = join(folder, "project");
  await mkdir(home);
  await mkdir(repository);
  const gomote = async (argv: readonly string[], input = ""): Promise<Said> => {
    const env = { HOME: home, XDG_CONFIG_HOME: "", XDG_CACHE_HOME: "", GOROOT: "" };
    const script = 'input=$1; shift; printf %s "$input" | "$@" 2> "$HOME/stderr"';
    await using run = new Process("sh", ["-c", script, "sh", input, process.execPath, program, ...argv], {
      env,
      cwd: repository,
    });
    const status = await run.exited;
    return { status, stdout: run.output, stderr: await readFile(join(home, "stderr"), "utf8") };
  };

  expect((await gomote([`-server=${address}`, "list"])).stderr).toContain("its certificate cannot be trusted");
  expect(await gomote([`-server=${address}`, `-ca-file=${caFile}`, "login", "-token"], "brt_wrong")).toMatchObject({
    status: 1,
  });
  expect(await gomote([`-server=${address}`, `-ca-file=${caFile}`, "login", "-token"], token)).toMatchObject({
    status: 0,
  });
  expect(await gomote(["create", "-list"])).toMatchObject({ status: 0, stdout: `${TYPE}\n` });
  const id = `alice-${TYPE}-0`;
  expect(await gomote(["create", "-status=false", "-new-group=g", TYPE])).toEqual({
    status: 0,
    stdout: `${id}\n`,
    stderr: "",
  });
  expect(await gomote(["ls", id])).toEqual({ status: 0, stdout: "", stderr: "" });
  expect((await gomote(["list"])).stdout).toMatch(new RegExp(`^${id} \\(g\\)\t${TYPE}\t${TYPE}\texpires in `));
  expect(await gomote(["ping", id])).toMatchObject({ status: 0, stderr: `# ${id}: alive\n` });

  expect(await gomote(["run", id, "/bin/sh", "-c", "echo out; exit 3"])).toEqual({
    status: 3,
    stdout: "out\n",
    stderr: `# ${id}: exit status 3\n`,
  });
  expect(await gomote(["-group=g", "run", "-e", "A=two words", "/bin/sh", "-c", 'echo "$A" > said'])).toMatchObject({
    status: 0,
  });
  expect((await gomote(["ls", id])).stdout).toMatch(/^-rw-r--r--\tsaid\t10\t/m);
  expect(await gomote(["run", id, "/bin/sh", "-c", "kill -TERM $$"])).toMatchObject({ status: 143 });

  await using running = new Process(
    process.execPath,
    [program, "run", id, "/bin/sh", "-c", "echo $$ > pid; echo on; exec sleep 1000"],
    {
      env: { HOME: home, XDG_CONFIG_HOME: "", XDG_CACHE_HOME: "" },
    },
  );
  await running.says(/on\n/);
  running.kill("SIGINT");
  expect(await running.exited).toBe(130);
  const gone = "while kill -0 $(cat pid) 2> /dev/null; do sleep 0.05; done";
  expect(await gomote(["run", id, "/bin/sh", "-c", gone])).toMatchObject({ status: 0 });

  execFileSync("git", ["-C", repository, "init", "-q"]);
  await writeFile(join(repository, "a.txt"), "hello\n");
  await writeFile(join(repository, "run.sh"), "#!/bin/sh\ncat a.txt\n", { mode: 0o755 });
  expect(await gomote(["push", id])).toMatchObject({ status: 0, stdout: "" });
  expect(await gomote(["run", id, "project/run.sh"])).toMatchObject({ status: 0, stdout: "hello\n" });
  expect((await gomote(["push", id])).stderr).toContain("is as it is here already");

  expect(await gomote(["rm", id, "said", "project"])).toMatchObject({ status: 0 });
  expect((await gomote(["ls", id])).stdout).not.toContain("said");
  expect(await gomote(["-group=g", "destroy", "-destroy-group"])).toMatchObject({ status: 0 });
  expect(await gomote(["list"])).toEqual({ status: 0, stdout: "", stderr: "" });
  expect((await gomote(["run", id, "true"])).stderr).toContain(`Cannot find instance "${id}"`);
});
