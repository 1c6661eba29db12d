/**
 * How long a farm is away when its coordinator is killed: until all machines are back and every build that ran goes on.
 *
 * MACHINES simulated machines join, BUILDS of them run a command that prints a line and goes on. The coordinator gets `kill -9` and is started
 * again on the same addresses; machines dial again as fast as they can. The clock runs from the kill until every machine has an open
 * session in the database and every command has been asked for again, from the byte that its log has. Then the commands end, and
 * each build must have ended well in its first attempt.
 */
import type { Bench, Context } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atMost } from "./figure.ts";
import { until } from "./wait.ts";

const RUNS = 3;
const MACHINES = 200;
const BUILDS = 50;
const LIMIT_MS = 60_000;

export const restart: Bench = {
  name: "restart",
  about: "seconds from kill -9 of the coordinator to 200 machines back and 50 builds going on",
  limitMs: 180_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    await farm.commit();
    await using fleet = await farm.simulate({ prefix: "held", count: MACHINES, hold: true });
    await fleet.connected(MACHINES, LIMIT_MS, context.signal);
    const back: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      back.push(await once(farm, fleet, run * BUILDS, context));
      context.note(`run ${run} of ${RUNS}: ${back.at(-1)?.toFixed(2)} s`);
    }
    context.report({ figure: "all-back", unit: "s", values: back, goal: atMost(5) });
  },
};

async function once(
  farm: BenchFarm,
  fleet: Awaited<ReturnType<BenchFarm["simulate"]>>,
  builds: number,
  { signal }: Context,
): Promise<number> {
  const limit = { signal, limitMs: LIMIT_MS, everyMs: 20 };
  await farm.want({ steps: [{ name: "hold", command: ["true"] }], count: BUILDS });
  await stored(farm, limit);
  const killed = performance.now();
  await farm.stopCoordinator("SIGKILL");
  await farm.startCoordinator();
  await until(() => fleet.state.resumed >= builds, {
    ...limit,
    what: () => `${builds} commands to be taken up: ${fleet.state.resumed} were`,
  });
  let open = 0;
  await until(
    async () => {
      open = await farm.openSessions();
      return open >= MACHINES;
    },
    { ...limit, what: () => `${MACHINES} machines: ${open} are back` },
  );
  const took = (performance.now() - killed) / 1000;
  await farm.allEnded(LIMIT_MS);
  const [again] = await farm.sql.query<{ n: number }>("select count(*) as n from attempt where number > 1");
  if (again?.n !== 0) throw new Error(`Cannot measure: ${again?.n} attempts were not taken up but made again`);
  return took;
}

/** The first line of every command is in its log, so that what is taken up begins behind it. */
async function stored(
  farm: BenchFarm,
  limit: { signal: AbortSignal; limitMs: number; everyMs: number },
): Promise<void> {
  let n = 0;
  await until(
    async () => {
      const [row] = await farm.sql.query<{ n: number }>(
        `select count(*) as n from step s join log on log.id = s.log_id where s.number = 1 and s.ended_at is null and log.length > 0`,
      );
      n = row?.n ?? 0;
      return n >= BUILDS;
    },
    { ...limit, what: () => `${BUILDS} commands whose line is stored: ${n} are` },
  );
}
