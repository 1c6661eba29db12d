/** `buildlet`: lends this machine to a coordinator (agent/buildlet.ts). */
import { agentLog } from "../../agent/agent-log.ts";
import { runBuildlet } from "../../agent/buildlet.ts";
import { BUILDLET_FLAGS } from "../../agent/buildlet-flags.ts";
import { goSystem } from "../../agent/machine-info.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { parseFlags } from "../../farm/flags.ts";
import { BUILDLET_VERSION } from "../../wire/buildlet-api/buildlet-api.ts";

async function main(): Promise<number> {
  const parsed = parseFlags(
    "usage: buildlet -coordinator=HOST:PORT -reverse-type=TYPE [flags]",
    BUILDLET_FLAGS,
    process.argv.slice(2),
  );
  if (parsed.kind === "stop") {
    process.stderr.write(parsed.text);
    return parsed.exitCode;
  }
  if (parsed.values.version) {
    process.stdout.write(`buildlet version ${BUILDLET_VERSION} (${goSystem()})\nnode ${process.version}\n`);
    return 0;
  }
  const stop = new AbortController();
  let signalled = 0;
  for (const [name, number] of [
    ["SIGINT", 2],
    ["SIGTERM", 15],
  ] as const) {
    process.on(name, () => {
      if (signalled !== 0) process.exit(128 + number); // asked twice: at once
      signalled = 128 + number;
      stop.abort(new Error(`told to stop by ${name}`));
    });
  }
  try {
    await runBuildlet(
      parsed.values,
      {
        clock: systemClock,
        env: process.env,
        platform: process.platform,
        uid: process.getuid?.(),
        program: process.argv[1],
        log: agentLog,
      },
      stop.signal,
    );
  } catch (error) {
    if (signalled === 0) {
      agentLog(messageOf(error));
      return 1;
    }
  }
  return signalled;
}

void main().then((code) => process.exit(code));
