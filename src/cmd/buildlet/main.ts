/** `buildlet`: lends this machine to a coordinator (agent/buildlet.ts). */
import { agentLog } from "../../agent/agent-log.ts";
import { PACK_ARGUMENT } from "../../agent/api/pack-argument.ts";
import { runBuildlet } from "../../agent/buildlet.ts";
import { BUILDLET_FLAGS } from "../../agent/buildlet-flags.ts";
import { goSystem } from "../../agent/machine-info.ts";
import { stopSignals } from "../../agent/stop-signals.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { parseFlags } from "../../farm/flags.ts";
import { BUILDLET_VERSION } from "../../wire/buildlet-api/buildlet-api.ts";

async function main(): Promise<number> {
  if (process.argv[2] === PACK_ARGUMENT) return (await import("../../agent/api/pack-beside.ts")).packForParent();
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
  const stop = stopSignals();
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
    if (stop.exitCode() === 0) {
      agentLog(messageOf(error));
      return 1;
    }
  }
  return stop.exitCode();
}

void main().then((code) => process.exit(code));
