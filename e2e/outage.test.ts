/**
 * The database away for a minute, under three coordinators and machines at work: stopped, and silent, as behind a network that is broken.
 * Commands go on, no session ends, no coordinator takes another for dead, pages say what is the matter; what ended meanwhile is written down
 * when the database is back, everything in its first attempt and every log to the last byte, also of a command that printed more
 * than a coordinator holds in its memory.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Machine } from "./testing/machine.ts";
import { until } from "./testing/process.ts";
import { ORIGINAL_TYPE, OUR_TYPE, outputOf, SeveralCoordinators, waitingOutputOf } from "./testing/several.ts";

const AWAY_MS = 60_000;
/** A page says within this that it cannot be shown. */
const SAID_WITHIN_MS = 15_000;
const LINES = 40;
const PAUSE = "0.2";
const LOUD_BYTES = 24_000_000;
const LOUD_LINE = "as much as a compiler with all its warnings";

/** `brief` ends while the database is away, `long` after it is back. */
const BUILDERS = `[
  ...[["brief", "${OUR_TYPE}", ["brief"]], ["both", "${OUR_TYPE}", ["brief", "long"]], ["long", "${OUR_TYPE}", ["long"]],
    ["original-brief", "${ORIGINAL_TYPE}", ["brief"]], ["original-long", "${ORIGINAL_TYPE}", ["long"]],
  ].map(([name, host, steps]) => ({ name: "linux-amd64-" + name, host, steps: steps.map((step) => ({ name: step,
    command: ["./work.sh", step, "${LINES}", "${PAUSE}", ...(step === "long" ? [import.meta.dirname + "/back"] : [])] })) })),
  { name: "linux-amd64-loud", host: "${OUR_TYPE}", env: { FOLDER: import.meta.dirname },
    steps: [{ name: "loud", command: "until [ -e $FOLDER/away ]; do sleep 0.1; done; yes '${LOUD_LINE}' | head -c ${LOUD_BYTES}" }] },
]`;
const BUILDERS_COUNT = 6;

/** What a step wrote, as far as it can be told from its log. */
function written(step: string, log: string): string {
  if (step === "loud") return `${LOUD_LINE}\n`.repeat(LOUD_BYTES / LOUD_LINE.length).slice(0, LOUD_BYTES);
  return step === "long" ? waitingOutputOf(step, LINES, log) : outputOf(step, LINES);
}

for (const outage of ["stopped", "silent"] as const) {
  test.concurrent(`the database is ${outage} for ${AWAY_MS / 1000} s: commands go on, nothing is lost and nobody is taken for dead`, {
    timeout: AWAY_MS + 240_000,
  }, async () => {
    await using farm = await SeveralCoordinators.start({ coordinators: 3, builders: BUILDERS });
    await using owned = new AsyncDisposableStack();
    const machines: Machine[] = [];
    for (const name of ["m1", "m2", "m3", "m4"]) machines.push(owned.use(await farm.machine(name)));
    for (const name of ["o1", "o2"]) owned.use(await farm.original(name));
    await until(
      async () => (await farm.number(RUNNING)) === BUILDERS_COUNT,
      60_000,
      () => `${BUILDERS_COUNT} builds that run\n${farm.said()}`,
    );

    await farm.database.leave(outage);
    const back = performance.now() + AWAY_MS;
    await writeFile(join(farm.folder, "away"), "");
    await farm.commit(); // to be found afterwards
    const said = await Promise.all([...farm.running.values()].map(({ http }) => ask(http)));
    await new Promise((resolve) => setTimeout(resolve, back - performance.now()));
    await farm.database.comeBack(outage);
    await until(
      async () => (await farm.number(ENDED)) >= 4,
      60_000,
      () => `what ended meanwhile\n${farm.said()}`,
    );
    await writeFile(join(farm.folder, "back"), "");

    await farm.ended(farm.commits * BUILDERS_COUNT, 150_000);
    expect(said).toEqual(Array(3).fill({ alive: 200, page: 503, late: false }));
    expect({
      attempts: await farm.rows("select outcome, number, count(*)::integer as n from attempt group by 1, 2"),
      coordinators: await farm.rows("select ended_at, count(*)::integer as n from coordinator group by 1"),
      exited: [...farm.running.values()].filter(({ process }) => process.child.exitCode !== null).length,
      sessions: await farm.rows(
        "select m.name, s.close_reason from session s join machine m on m.id = s.machine_id where m.name like 'm%' and s.closed_at is not null",
      ),
      registered: machines.map(({ output }) => output.split("Registered").length - 1),
      leases: await farm.number("select count(*) as n from lease where state <> 'ended'"),
      ranOften: [...(await farm.runs())].filter(([, times]) => times !== 1),
    }).toEqual({
      attempts: [{ outcome: "success", number: 1, n: farm.commits * BUILDERS_COUNT }],
      coordinators: [{ ended_at: null, n: 3 }],
      exited: 0,
      sessions: [],
      registered: [1, 1, 1, 1],
      leases: 0,
      ranOften: [],
    });
    const steps = await farm.rows<{ build: number; name: string }>(
      "select a.build_id as build, s.name from attempt a join step s on s.attempt_id = a.id where s.number > 0 order by 1, s.number",
    );
    const coordinators = [...farm.running.values()];
    for (const [index, { build, name }] of steps.entries()) {
      const http = coordinators[index % coordinators.length]?.http;
      const log = await (await fetch(`${http}/b/${build}/${name}/log`)).text();
      expect(
        log === written(name, log),
        `build ${build}, ${name}: ${log.length} bytes, ending in ${log.slice(-200)}`,
      ).toBe(true);
    }
  });
}

const ENDED = "select count(*) as n from step where name in ('brief', 'loud') and ended_at is not null";
const RUNNING = "select count(*) as n from step where number = 1 and log_id is not null and ended_at is null";

/** What a coordinator says of itself and of its pages while the database is away. */
async function ask(http: string): Promise<{ alive: number; page: number; late: boolean }> {
  const began = performance.now();
  const [alive, page] = await Promise.all([fetch(`${http}/healthz`), fetch(`${http}/`)]);
  return { alive: alive.status, page: page.status, late: performance.now() - began > SAID_WITHIN_MS };
}
