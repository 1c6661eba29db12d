import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { makeProject } from "./preset-make.ts";
import { autodetect } from "./presets.ts";

interface Found {
  /** What makeProject() lists as tests. "" where it says that there are none. */
  readonly listed: string;
  /** What autodetect() runs. */
  readonly run: string;
  readonly ok: boolean;
}

/** What the presets do in a repository with these files. A name that ends with a slash is a folder. */
async function found(files: Record<string, string>): Promise<Found> {
  const folder = await mkdtemp(join(tmpdir(), "make-target-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(name.endsWith("/") ? path : dirname(path), { recursive: true });
    if (!name.endsWith("/")) await writeFile(path, text);
  }
  const shell = (script: unknown) =>
    new Promise<{ ok: boolean; out: string; err: string }>((resolve) => {
      const env = { ...process.env, MAKELEVEL: "1" }; // like a machine's agent that was started by some make
      execFile("sh", ["-ec", String(script)], { cwd: folder, env }, (error, out, err) =>
        resolve({ ok: error === null, out, err }),
      );
    });
  const list = makeProject().tests?.list as { command: readonly string[] };
  const listed = await shell(list.command[2]);
  expect(listed.err).toMatch(listed.ok ? /^$/ : /^Found neither a target check nor a target test .*\n$/);
  const detected = await shell(autodetect().map(({ command }) => command));
  const run = [...detected.out.matchAll(/^\+ (.*)$/gm)].map(([, command]) => command).join(", ");
  return { listed: listed.out.trim(), run, ok: detected.ok };
}

const nothing: Found = { listed: "", run: "make", ok: true };

test("a file or a folder named check or test is no target", async () => {
  const makefile = { Makefile: "all:\n\techo built\n" };
  expect(await found({ ...makefile, "test/": "", "check/": "" })).toEqual(nothing);
  expect(await found({ ...makefile, test: "", check: "" })).toEqual(nothing);
  expect(await found(makefile)).toEqual(nothing);
});

test("a folder check/ does not hide the target test, whose failure is the build's", async () => {
  const fails = { Makefile: "all:\n\techo built\ntest:\n\techo real tests fail; exit 1\n" };
  const test = { listed: "test", run: "make, make test", ok: false };
  expect(await found({ ...fails, "check/": "" })).toEqual(test);
  expect(await found(fails)).toEqual(test);
});

test("a target that does nothing, or that make's own rules would make of a source, is none", async () => {
  expect(await found({ Makefile: "all:\n\ttrue\n.PHONY: check\ncheck:\n" })).toEqual(nothing);
  expect(await found({ Makefile: "all:\n\ttrue\ntest:\n\tfalse\n", "test/": "" })).toEqual(nothing);
  expect(await found({ Makefile: "all:\n\ttrue\n", "test.sh": "true\n", "check.c": "int main() {}\n" })).toEqual(
    nothing,
  );
});

test("a target is one wherever its work is done: by what it needs, in subfolders, by make's own rules", async () => {
  const check = { listed: "check", run: "make check", ok: true };
  expect(await found({ Makefile: "all:\n\ttrue\ncheck: it\nit:\n\ttrue\n", "check.sh": "" })).toEqual(check);
  const sub = "all:\n\ttrue\ncheck:\n\t$(MAKE) -C none check\n\t$(MAKE) -C some check\n";
  const makefiles = { "none/Makefile": "check:\n", "some/Makefile": "check:\n\ttrue\n" };
  expect(await found({ Makefile: sub, ...makefiles })).toEqual(check);
  expect(await found({ Makefile: "all:\n\ttrue\ncheck: it\n\t./it\n", "it.sh": "#!/bin/sh\n" })).toEqual(check);
  expect(await found({ Makefile: "all:\n\ttrue\n.PHONY: check\ncheck:\n\t@false\n", "check/": "" })).toMatchObject({
    ...check,
    ok: false,
  });
});
