import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isAlive } from "./linux-processes.ts";
import { ownUser } from "./own-user.ts";

const WORLD = join(import.meta.dirname, "../testing/own-user-world.ts");
const APART = ["-rpf", "--mount-proc", "--kill-child"];

/** Process namespaces are root's on some systems. */
const canBeApart = (() => {
  try {
    execFileSync("unshare", [...APART, "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

interface World {
  /** Commands of all but the agent, before the lease ends and after. */
  readonly before: string[];
  readonly after: string[];
  /** Whether new processes begin all the time before, and how many after. */
  readonly isForking: boolean;
  readonly forks: number;
  /** By the shell, after the agent. */
  readonly said: string;
}

/** `script` is a shell's that is the first process of a computer; `$0 "$@"` is the agent. */
async function inWorld(script: string): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "own-user-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "chain"), `setsid sh "$0" & exit 0\n`);
  const word = `000.${process.pid}`;
  const agent = [process.execPath, WORLD, folder, word];
  const out = await new Promise<string>((resolve, reject) => {
    const args = [...APART, "sh", "-c", script.replace("NAP", `sleep 5${word}`), ...agent];
    execFile("unshare", args, { timeout: 60_000, killSignal: "SIGKILL" }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
  const [line = "", ...said] = out.split("\n");
  return { ...(JSON.parse(line) as Omit<World, "said">), said: said.join("\n") };
}

test.runIf(canBeApart)(
  "when a lease ends nothing of the agent's own user is left, whatever it cleared, has or began; what an earlier agent left neither",
  async () => {
    const { before, isForking, after, forks } = await inWorld(`setsid -f NAP; "$0" "$@"; exit $?`);
    expect(before.filter((line) => line.startsWith("sleep "))).toHaveLength(5);
    expect([isForking, forks]).toEqual([true, 0]);
    expect(after).toEqual([expect.stringMatching(/^sh -c setsid/)]);
  },
  90_000,
);

test.runIf(canBeApart)(
  "whoever started the agent is spared, with who shares its session, though they are the same user's",
  async () => {
    const agent = `sleep 30 & "$0" "$@"; echo still here; kill $!`;
    const script = `setsid -f NAP; sh -c '${agent}' "$0" "$@"; exit $?`;
    const { before, isForking, after, forks, said } = await inWorld(script);
    expect(before.filter((line) => line.startsWith("sleep "))).toHaveLength(6);
    expect([isForking, forks]).toEqual([true, 0]);
    const shells = [expect.stringMatching(/^sh -c setsid/), expect.stringMatching(/^sh -c sleep 30/)];
    expect(after).toEqual([...shells, "sleep 30"]);
    expect(said).toBe("still here\n");
  },
  90_000,
);

test("ownUser() refuses where not all processes of a user can be seen, and root", () => {
  expect(ownUser("linux", 1001)).toBe(1001);
  expect(() => ownUser("linux", 0)).toThrow("Cannot use -own-user as root");
  expect(() => ownUser("darwin", 501)).toThrow("Cannot use -own-user on darwin: want Linux");
  expect(() => ownUser("win32", undefined)).toThrow("Cannot use -own-user on win32");
});

test("a process whose first thread has ended is alive as long as it has others", () => {
  const fields = (state: string, threads: number) => [state, ...Array(16).fill("0"), String(threads), "0", "900"];
  expect([isAlive(fields("Z", 2)), isAlive(fields("Z", 1)), isAlive(fields("D", 1)), isAlive([""])]).toEqual([
    true,
    false,
    true,
    false,
  ]);
});
