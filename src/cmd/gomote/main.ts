/** `gomote`: machines of the farm at a developer's fingertips. See `-help` and docs/gomote.md. */
import { tmpdir } from "node:os";
import { systemClock } from "../../agent/system-clock.ts";
import { gomote } from "../../client/gomote.ts";
import { outputTo } from "../../client/output.ts";
import { Stopped } from "../../client/stopped.ts";

/** How long a command may take to stop that was told to. */
const STOP_LIMIT_MS = 10_000;

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  process.on(name, () => {
    const stopped = new Stopped(name);
    if (stop.signal.aborted) process.exit(stopped.exitStatus);
    process.stderr.write("# stopping; once more to leave at once\n");
    setTimeout(() => process.exit(stopped.exitStatus), STOP_LIMIT_MS);
    stop.abort(stopped);
  });
}
// Whoever reads what is printed may have seen enough.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

const status = await gomote(process.argv.slice(2), {
  env: process.env,
  platform: process.platform,
  cwd: process.cwd(),
  tempFolder: tmpdir(),
  clock: systemClock,
  output: outputTo(process.stdout, process.stderr, stop.signal),
  stdin: process.stdin,
  signal: stop.signal,
});
// After Ctrl-C nothing is waited for, such as a reader who does not read.
if (stop.signal.aborted) process.exit(status);
process.exitCode = status;
