import * as library from "@lydell/node-pty";
import { expect, test } from "vitest";
import type { Exit } from "../../wire/buildlet-api/shell.ts";
import { systemClock } from "../system-clock.ts";
import { inPty, type ShellProcess } from "./processes.ts";
import type { PtyModule } from "./pty.ts";

const TERMINAL = { name: "xterm", columns: 80, rows: 24 };
/** The library closes a terminal so long after the end of its program. */
const CLOSED_AFTER_MS = 200;

/** A command in a terminal, whose output is held back from the first of it on. */
function started(command: string) {
  const ended = Promise.withResolvers<Exit>();
  const first = Promise.withResolvers<void>();
  const said = { out: "", takes: false, ended: ended.promise, first: first.promise };
  const env = { PATH: process.env.PATH ?? "" };
  const sink = {
    output(_: "data" | "errors", bytes: Buffer): boolean {
      said.out += bytes.toString();
      first.resolve();
      return said.takes;
    },
    ended: ended.resolve,
  };
  const pty = library as unknown as PtyModule;
  const running: ShellProcess = inPty(
    pty,
    { program: "/bin/sh", args: ["-c", command], dir: "/", env },
    TERMINAL,
    systemClock,
    sink,
  );
  return { running, said };
}

test.runIf(process.platform === "linux")(
  "a terminal gives all that was printed, also when it is read only long after the end",
  async () => {
    const { running, said } = started("yes | head -c 20000; echo the end");
    await said.first;
    // A terminal takes so much without being read, so the command ends; the library's time runs from there.
    await new Promise((resolve) => setTimeout(resolve, 3 * CLOSED_AFTER_MS));
    expect(said.out).not.toContain("the end");
    said.takes = true;
    running.resume();
    expect(await said.ended).toEqual({ code: 0, signal: null, problem: "" });
    expect(said.out.endsWith("the end\r\n")).toBe(true);
    expect(said.out.length).toBe(30_000 + "the end\r\n".length);
  },
);

test.runIf(process.platform === "linux")(
  "what a program does not read is held back, and holds up nobody else; it gets all of it",
  async () => {
    const { running, said } = started("stty raw -echo; echo ready; sleep 1; head -c 300000 | wc -c");
    said.takes = true;
    await said.first;
    running.resume();
    const began = performance.now();
    const typed = Buffer.alloc(300_000, "x");
    expect(running.write(typed)).toBe(false);
    expect(performance.now() - began).toBeLessThan(5000);
    await running.drained();
    expect((await said.ended).code).toBe(0);
    expect(said.out).toContain("300000");
  },
);
