/**
 * How fast the tree of a build gets from the machine that made it onto the next one: 300 MB in 1,500 files.
 *
 * A real machine's build makes the tree in a step and keeps it as a snapshot; the time of that is from the end of the step until the
 * snapshot is there (packing, TLS, the coordinator's disk). Then the build is wanted again, and starts from the snapshot; the time of that
 * is of its step `snapshot` (the coordinator's disk, its SHA-256, TLS, unpacking). In the same run, alternating, the same tree goes
 * through `tar | gzip -1`, a bare TLS pipe (tls-pipe.ts) and `tar x`. Every run has a commit of its own.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Repository } from "../e2e/testing/repository.ts";
import { minutes } from "../src/farm/ids.ts";
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atLeast } from "./figure.ts";
import { numbers, textLikeSource } from "./text.ts";
import { pipeOverTls } from "./tls-pipe.ts";
import { until } from "./wait.ts";

const FILES = 1500;
const FILE_BYTES = 200_000;
const RUNS = 3;
const BUILD_LIMIT_MS = 90_000;

export const snapshot: Bench = {
  name: "snapshot",
  about: "300 MB of a made tree packed, stored and unpacked against tar | gzip -1 | tar x over a TLS pipe",
  limitMs: 240_000,
  async run(context) {
    const { signal } = context;
    await using farm = await BenchFarm.start({ signal, fill });
    await using _machine = await farm.machine("maker");
    const tree = join(farm.folder, "tree");
    await makeTree(tree);
    const ratios: number[] = [];
    const keeping: number[] = [];
    const starting: number[] = [];
    await farm.commit();
    const commits = await farm.sql.query<{ id: number }>("select id from commit order by id limit $1", [RUNS]);
    for (const [at, { id: commitId }] of commits.entries()) {
      const unpacked = join(farm.folder, `unpacked-${at}`);
      const bare = await pipeOverTls({
        ...farm.certificate,
        command: `tar -C ${tree} -cf - . | gzip -1`,
        into: `mkdir ${unpacked} && tar -C ${unpacked} -xzf -`,
        signal,
      });
      const kept = await keep(farm, tree, commitId, signal);
      const started = await start(farm, kept.build);
      ratios.push(bare.ms / (kept.ms + started));
      keeping.push(kept.ms);
      starting.push(started);
      context.note(
        `run ${at + 1} of ${RUNS}: ${speed(kept.ms)} into the store, ${speed(started)} out of it, ${speed(bare.ms)} through the bare pipe (packed to ${(bare.bytes / 1e6).toFixed(0)} MB)`,
      );
    }
    context.report({ figure: "ratio", unit: "of bare TLS", values: ratios, goal: atLeast(0.6) });
    context.report({ figure: "keep", unit: "ms", values: keeping });
    context.report({ figure: "start", unit: "ms", values: starting });
  },
};

/** Builds `commitId`; `ms`: from the end of its step until its snapshot was there. */
async function keep(farm: BenchFarm, tree: string, commitId: number, signal: AbortSignal) {
  // Its test runs until the tree is kept, as tests do that take a while.
  const flag = join(farm.folder, `kept-${commitId}`);
  const wait = `until [ -e ${flag} ]; do sleep 0.1; done`;
  const command = { name: "test", command: ["sh", "-c", wait], dir: "", env: [], path: [], timeLimitMs: minutes(5) };
  const [build] = await farm.want({
    steps: [{ name: "make", command: ["sh", "-c", `cp -r ${tree} tree`] }],
    commitId,
    after: {
      tests: {
        list: { names: ["one"] },
        run: command,
        names: "args",
        results: "exit",
        groupTargetMs: 1000,
        unknownMs: 1000,
        helpers: 0,
        tryHelpers: 0,
        keepGoing: true,
      },
      snapshot: { exclude: [], limitBytes: 1e9, keepMs: minutes(60) },
    },
  });
  if (!build) throw new Error("Cannot measure: the build was not inserted");
  const ms = await until(
    async () => {
      const [row] = await farm.sql.query<{ made: number; ended: number }>(
        `select x.made_at as made, s.ended_at as ended from snapshot x join attempt a on a.build_id = x.build_id
           join step s on s.attempt_id = a.id and s.name = 'make' where x.build_id = $1`,
        [build.id],
      );
      return row ? row.made - row.ended : undefined;
    },
    { signal, limitMs: BUILD_LIMIT_MS, what: () => `the snapshot of build ${build.id}` },
  );
  await writeFile(flag, "");
  await farm.allEnded(BUILD_LIMIT_MS, 50);
  return { build, ms };
}

/** The same build again; resolves with how long it took until the tree was there, in milliseconds. */
async function start(farm: BenchFarm, of: Parameters<BenchFarm["wantAgain"]>[0]): Promise<number> {
  const build = await farm.wantAgain(of);
  await farm.allEnded(BUILD_LIMIT_MS, 50);
  const [row] = await farm.sql.query<{ name: string; started_at: number; ended_at: number }>(
    `select s.name, s.started_at, s.ended_at from attempt a join step s on s.attempt_id = a.id
     where a.build_id = $1 and s.number = 0`,
    [build.id],
  );
  if (row?.name !== "snapshot") throw new Error(`Cannot measure: build ${build.id} did not start from the snapshot`);
  return row.ended_at - row.started_at;
}

function speed(ms: number): string {
  return `${((FILES * FILE_BYTES) / 1000 / ms).toFixed(0)} MB/s`;
}

async function makeTree(tree: string): Promise<void> {
  const random = numbers();
  const bytes = textLikeSource(random);
  for (let file = 0; file < FILES; file++) {
    const folder = join(tree, `package-${file % 50}`);
    await mkdir(folder, { recursive: true });
    const from = random() % (bytes.length - FILE_BYTES);
    await writeFile(join(folder, `file-${file}.txt`), bytes.subarray(from, from + FILE_BYTES));
  }
}

async function fill(repository: Repository): Promise<void> {
  for (let run = 1; run <= RUNS; run++) await repository.commit("A change", { "changed.txt": `${run}\n` });
}
