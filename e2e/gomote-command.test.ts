/** The command as a developer has it, fetched from a farm of real processes, with a real machine; nothing is imported from it. */
import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Computer, LentFarm, TYPE } from "./testing/lent-farm.ts";

test("a developer fetches gomote, logs in, and has a machine: run, ls, push, ping, rm, destroy", {
  timeout: 300_000,
}, async () => {
  await using farm = await LentFarm.start();
  const { address, caFile } = farm;
  const computer = await Computer.start(farm);
  const gomote = (argv: readonly string[], input = "") => computer.gomote(argv, { input });

  expect((await gomote([`-server=${address}`, "list"])).stderr).toContain("its certificate cannot be trusted");
  expect(await gomote([`-server=${address}`, `-ca-file=${caFile}`, "login", "-token"], "brt_wrong")).toMatchObject({
    status: 1,
  });
  expect(
    await gomote([`-server=${address}`, `-ca-file=${caFile}`, "login", "-token"], await farm.token()),
  ).toMatchObject({
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

  expect(await gomote(["ssh", id])).toMatchObject({
    status: 1,
    stderr: "# gomote ssh: Cannot sign a key: this farm has no ssh gateway; its operator starts it with -listen-ssh.\n",
  });

  await using running = computer.begin(["run", id, "/bin/sh", "-c", "echo $$ > pid; echo on; exec sleep 1000"]);
  await running.says(/on\n/);
  running.kill("SIGINT");
  expect(await running.exited).toBe(130);
  const gone = "while kill -0 $(cat pid) 2> /dev/null; do sleep 0.05; done";
  expect(await gomote(["run", id, "/bin/sh", "-c", gone])).toMatchObject({ status: 0 });

  execFileSync("git", ["-C", computer.cwd, "init", "-q"]);
  await writeFile(join(computer.cwd, "a.txt"), "hello\n");
  await writeFile(join(computer.cwd, "run.sh"), "#!/bin/sh\ncat a.txt\n", { mode: 0o755 });
  expect(await gomote(["push", id])).toMatchObject({ status: 0, stdout: "" });
  expect(await gomote(["run", id, "project/run.sh"])).toMatchObject({ status: 0, stdout: "hello\n" });
  expect((await gomote(["push", id])).stderr).toContain("is as it is here already");

  expect(await gomote(["rm", id, "said", "project"])).toMatchObject({ status: 0 });
  expect((await gomote(["ls", id])).stdout).not.toContain("said");
  expect(await gomote(["-group=g", "destroy", "-destroy-group"])).toMatchObject({ status: 0 });
  expect(await gomote(["list"])).toEqual({ status: 0, stdout: "", stderr: "" });
  expect((await gomote(["run", id, "true"])).stderr).toContain(`Cannot find instance "${id}"`);
});
