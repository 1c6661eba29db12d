/**
 * A computer with one user, for own-user.test.ts. It runs in a process namespace of its own, where this program is the
 * agent and has its user for itself. It starts processes that try to outlive a lease, ends the lease, and prints which
 * processes are left.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ms } from "../../farm/ids.ts";
import { Commands } from "../exec/commands.ts";
import { systemClock } from "../system-clock.ts";

const [folder = "", word = ""] = process.argv.slice(2);
if (process.pid > 100 || readdirSync("/proc").includes("500")) throw new Error("This is somebody's computer");

const SILENT = ">/dev/null 2>&1 </dev/null";
const nap = (number: number) => `sleep ${number}${word}`;
const left = () =>
  readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim())
    .filter((line) => line !== "");

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // it ended
  }
}

/** How many processes begin here within a while. */
async function begun(): Promise<number> {
  const last = () => Number(read("/proc/loadavg").split(" ")[4]);
  const before = last();
  await systemClock.sleep(ms(300));
  return last() - before;
}

const commands = new Commands(systemClock, process.platform, folder, process.getuid?.());
const never = new AbortController().signal;
const run = (dir: string, script: string) =>
  commands.run(
    { program: "/bin/sh", args: ["-c", script], dir, env: { PATH: process.env.PATH ?? "" } },
    { write: () => true, drained: () => Promise.resolve() },
    never,
  );
await run("/", `env -i setsid -f ${nap(1)} ${SILENT}`);
await run("/", `DISPLAY=:0 setsid -f ${nap(2)} ${SILENT}`);
await run(folder, `env -i DISPLAY=:0 setsid -f ${nap(3)} ${SILENT}`);
await run("/", `env -i setsid -f script -qfec '${nap(4)}' /dev/null ${SILENT}`);
// Each of them starts the next and ends.
await run("/", `env -i setsid -f sh ${join(folder, "chain")} ${SILENT}`);
while (![1, 2, 3, 4, 5].every((number) => left().includes(nap(number)))) await systemClock.sleep(ms(20));
const before = left();
const isForking = (await begun()) > 0;
await commands.killLeftovers();
const forks = await begun();
console.log(JSON.stringify({ before, isForking, after: left(), forks }));
