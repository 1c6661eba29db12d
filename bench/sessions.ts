/**
 * Thousands of machines that wait: what each costs the coordinator, and how fast all are back after a restart.
 *
 * MACHINES simulated machines (simulated-machines.ts) join one coordinator. Memory is its resident set once they have been idle
 * for SETTLE_MS, less what it had before the first one came, by their number. Processor time is taken over IDLE_MS of
 * idleness, longer than the keep-alive interval. Then the coordinator is stopped and started again on the same addresses, while all
 * machines dial as fast as they can; the clock runs from starting the process until every machine is back, registered
 * and in the database as an open session.
 */
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atMost } from "./figure.ts";
import { processorMs, residentBytes } from "./program.ts";
import { delay, until } from "./wait.ts";

const MACHINES = 5000;
const JOIN_LIMIT_MS = 60_000;
const SETTLE_MS = 10_000;
const IDLE_MS = 40_000;
const BACK_LIMIT_MS = 60_000;

export const sessions: Bench = {
  name: "sessions",
  about: "5,000 idle machines: memory of each, processor time, seconds until all are back after a restart",
  limitMs: 240_000,
  async run(context) {
    const { signal } = context;
    await using farm = await BenchFarm.start(context);
    await farm.commit();
    await delay(3000, signal);
    const before = await residentBytes(farm.coordinator.pid);
    const joining = performance.now();
    await using fleet = await farm.simulate({ prefix: "idle", count: MACHINES });
    await fleet.connected(MACHINES, JOIN_LIMIT_MS, signal);
    await allOpen(JOIN_LIMIT_MS);
    context.note(`${MACHINES} machines joined in ${seconds(joining)} s`);

    await delay(SETTLE_MS, signal);
    const processorBefore = await processorMs(farm.coordinator.pid);
    const idleSince = performance.now();
    await delay(IDLE_MS, signal);
    const used = (await processorMs(farm.coordinator.pid)) - processorBefore;
    const share = (100 * used) / (performance.now() - idleSince);
    const each = ((await residentBytes(farm.coordinator.pid)) - before) / 1024 / MACHINES;
    if (fleet.state.connected !== MACHINES) {
      throw new Error(`Cannot measure idle machines: only ${fleet.state.connected} stayed connected`);
    }

    await farm.stopCoordinator();
    await until(() => fleet.state.connected === 0, {
      signal,
      limitMs: 10_000,
      what: () => "all machines to notice that the coordinator ended",
    });
    const restarted = performance.now();
    await farm.startCoordinator();
    context.note(`the coordinator listens again after ${seconds(restarted)} s`);
    await fleet.connected(MACHINES, BACK_LIMIT_MS, signal);
    await allOpen(BACK_LIMIT_MS);
    const back = (performance.now() - restarted) / 1000;
    context.note(`${fleet.state.joins} registrations, ${fleet.state.failures} dials in vain`);

    context.report({ figure: "memory-each", unit: "KB", values: [each], goal: atMost(80) });
    context.report({ figure: "idle-cpu", unit: "% of a core", values: [share], goal: atMost(8) });
    context.report({ figure: "all-back", unit: "s", values: [back], goal: atMost(20) });

    async function allOpen(limitMs: number): Promise<void> {
      let open = 0;
      const what = () => `${MACHINES} open sessions: ${open} are open`;
      await until(
        async () => {
          open = await farm.openSessions();
          return open >= MACHINES;
        },
        { signal, limitMs, what, everyMs: 100 },
      );
    }
  },
};

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
