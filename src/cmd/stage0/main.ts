/** `stage0`: fetches the newest agent from the coordinator and starts it (agent/stage0/stage0.ts). */
import { realpathSync } from "node:fs";
import { userInfo } from "node:os";
import { agentLog } from "../../agent/agent-log.ts";
import { explainCertificate } from "../../agent/dial.ts";
import { goSystem } from "../../agent/machine-info.ts";
import { becomeProgram, commandFor, runChild } from "../../agent/stage0/launch.ts";
import { agentFlags, planStage0, STAGE0_FLAGS } from "../../agent/stage0/settings.ts";
import { runLoop, runOnce, type Stage0Deps } from "../../agent/stage0/stage0.ts";
import { printUnit } from "../../agent/stage0/unit.ts";
import { stopSignals } from "../../agent/stop-signals.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { httpGet } from "../../dial/http-get.ts";
import { messageOf } from "../../farm/errors.ts";
import { parseFlags } from "../../farm/flags.ts";

const REQUEST_LIMIT_MS = 30_000;

async function main(): Promise<number> {
  const parsed = parseFlags(
    "usage: stage0 -coordinator=HOST:PORT -reverse-type=TYPE [flags]",
    STAGE0_FLAGS,
    process.argv.slice(2),
  );
  if (parsed.kind === "stop") {
    process.stderr.write(parsed.text);
    return parsed.exitCode;
  }
  const { values, given } = parsed;
  if (values.version) {
    process.stdout.write(`stage0 (${goSystem()})\nnode ${process.version}\n`);
    return 0;
  }
  const machine = { env: process.env, platform: process.platform, uid: process.getuid?.() };
  const plan = planStage0(values, given, machine, process.cwd());
  if (values["print-unit"] !== "") {
    const key = process.env.GO_BUILD_KEY_PATH ?? "";
    const unit = printUnit(values["print-unit"], {
      command: [process.execPath, realpathSync(process.argv[1] ?? ""), ...agentFlags(values, given, process.env)],
      dir: process.cwd(),
      user: userInfo().username,
      env: key === "" ? [] : [["GO_BUILD_KEY_PATH", key]],
    });
    process.stdout.write(unit);
    return 0;
  }
  const stop = stopSignals();
  const tls = { rejectUnauthorized: plan.trust.verify, ...(plan.trust.ca === undefined ? {} : { ca: plan.trust.ca }) };
  const deps: Stage0Deps = {
    clock: systemClock,
    ...machine,
    log: agentLog,
    get: async (method, url) => {
      const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]);
      try {
        return await httpGet(url, { method, tls, signal });
      } catch (error) {
        throw explainCertificate(error, plan.trust);
      }
    },
    launch: async (file, args, env, signal) => {
      const program = commandFor(file, args);
      if (!values.loop) becomeProgram(program, env);
      return await runChild(program, env, signal);
    },
  };
  if (values.loop) await runLoop(plan, deps, stop.signal);
  else return (await runOnce(plan, deps, stop.signal)) || stop.exitCode();
  return stop.exitCode();
}

void main().then(
  (code) => process.exit(code),
  (error) => {
    agentLog(messageOf(error));
    process.exit(1);
  },
);
