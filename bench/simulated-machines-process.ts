/** The child process of simulated-machines.ts: does what it is told over IPC, and tells how many machines are connected. */
import { createSecureContext } from "node:tls";
import { BUILDLET_VERSION } from "../src/wire/buildlet-api/buildlet-api.ts";
import { EXECUTION_HEADER, FROM_HEADER } from "../src/wire/buildlet-api/execution.ts";
import { SHELL_PATH } from "../src/wire/buildlet-api/shell.ts";
import { fieldValues } from "../src/wire/revdial/http-head.ts";
import { echoingShell } from "./echoing-shell.ts";
import { type Answer, beginningOf, execAnswer, okAnswer } from "./request-responder.ts";
import { SimulatedMachine } from "./simulated-machine.ts";
import type { FleetOrder, FleetState } from "./simulated-machines.ts";

/** While a fleet first joins, so many dial at a time; after `drop` or a lost coordinator, all at once. */
const AT_A_TIME = 64;
const TELL_EVERY_MS = 50;

const machines: SimulatedMachine[] = [];
const state = { connected: 0, joins: 0, failures: 0, lastFailure: "", execs: 0, resumed: 0 } satisfies FleetState;
let joining = 0;
let waiting: SimulatedMachine[] = [];
let stopping = false;

process.on("message", (order: FleetOrder) => {
  if (order.do === "start") start(order);
  else for (const machine of machines) machine.drop();
});
process
  .on("disconnect", stop)
  .on("SIGTERM", stop)
  .on("SIGINT", () => {});

let told = "";
setInterval(() => {
  const now = JSON.stringify(state);
  if (now === told || !process.connected) return;
  told = now;
  process.send?.(state);
}, TELL_EVERY_MS);

function start(order: FleetOrder & { do: "start" }): void {
  const { host, port, ca, hostType, key, digest, prefix, count, output, hold = false } = order;
  const farm = { host, port, hostType, key, digest, secureContext: createSecureContext({ ca }) };
  const answer = answers(output, hold);
  for (let number = 0; number < count; number++) {
    let first = true;
    const over = () => {
      if (!first) return;
      first = false;
      joining--;
      next();
    };
    const machine = new SimulatedMachine(farm, `${prefix}-${number}`, answer, {
      joined() {
        state.connected++;
        state.joins++;
        over();
      },
      left() {
        state.connected--;
        if (!stopping) machine.join();
      },
      failed(reason) {
        state.failures++;
        state.lastFailure = reason;
        over();
        // As a supervisor would, though less patient: the figure is the coordinator's.
        if (!stopping) setTimeout(() => machine.join(), 100 + Math.random() * 400);
      },
    });
    machines.push(machine);
    waiting.push(machine);
  }
  next();
}

function next(): void {
  while (joining < AT_A_TIME && waiting.length > 0) {
    joining++;
    waiting.pop()?.join();
  }
}

function answers(output: string, hold: boolean): Answer {
  const status = okAnswer(JSON.stringify({ Version: BUILDLET_VERSION }), "Content-Type: application/json\r\n");
  const workDir = okAnswer("/simulated");
  const done = okAnswer("");
  const exec = execAnswer(output);
  const held = new Set<string>();
  return ({ target, fields }) => {
    const [path] = target.split("?", 1);
    if (path === "/status") return status;
    if (path === "/workdir") return workDir;
    if (path === SHELL_PATH) return echoingShell;
    if (path !== "/exec") return done;
    state.execs++;
    const [id = ""] = fieldValues({ fields }, EXECUTION_HEADER);
    if (!hold || id === "") return exec;
    if (!held.has(id)) {
      held.add(id);
      return beginningOf(exec);
    }
    state.resumed++;
    const from = Number(fieldValues({ fields }, FROM_HEADER)[0]);
    return execAnswer(output.slice(from));
  };
}

function stop(): void {
  stopping = true;
  waiting = [];
  process.exit(0);
}
