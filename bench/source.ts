/**
 * How fast a commit's tree gets onto a machine: 200 MB of text in 1,000 files.
 *
 * A real machine runs a build; the time is that of its step `source`, from its start until the last file is written: git archive,
 * gzip, TLS, gunzip, writing. In the same run, alternating, `tar | gzip -1` of the same tree goes through a bare TLS pipe
 * (tls-pipe.ts), whose receiver throws it away. Every run has a commit of its own, so that nothing is left over from the last one; the
 * second build of each is given for information, since the coordinator keeps what it packed.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Repository } from "../e2e/testing/repository.ts";
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atLeast } from "./figure.ts";
import { numbers, textLikeSource } from "./text.ts";
import { pipeOverTls } from "./tls-pipe.ts";

export const FILES = 1000;
export const FILE_BYTES = 200_000;
const RUNS = 3;
const BUILD_LIMIT_MS = 60_000;

export const source: Bench = {
  name: "source",
  about: "200 MB of source onto a machine against tar | gzip -1 through a bare TLS pipe",
  limitMs: 150_000,
  async run(context) {
    const { signal } = context;
    await using farm = await BenchFarm.start({ signal, fill: fillWithSource });
    await using _machine = await farm.machine("unpacker");
    const ratios: number[] = [];
    const kept: number[] = [];
    await farm.commit();
    const commits = await farm.sql.query<{ id: number }>("select id from commit order by id limit $1", [RUNS]);
    for (const [at, { id: commitId }] of commits.entries()) {
      const run = at + 1;
      const command = `tar -C ${farm.repository.path} --exclude=.git -cf - . | gzip -1`;
      const bare = await pipeOverTls({ ...farm.certificate, command, signal });
      const ours = await sourceStep(farm, commitId);
      const again = await sourceStep(farm, commitId);
      ratios.push(bare.ms / ours);
      kept.push(bare.ms / again);
      context.note(
        `run ${run} of ${RUNS}: ${speed(ours)} onto the machine, ${speed(again)} the second time, ${speed(bare.ms)} through the bare pipe (packed to ${(bare.bytes / 1e6).toFixed(0)} MB)`,
      );
    }
    context.report({ figure: "ratio", unit: "of bare TLS", values: ratios, goal: atLeast(0.6) });
    context.report({ figure: "ratio-kept", unit: "of bare TLS", values: kept });
  },
};

/** Builds `commitId`; resolves with how long it took until its tree was on the machine, in milliseconds. */
async function sourceStep(farm: BenchFarm, commitId: number): Promise<number> {
  const [build] = await farm.want({ steps: [{ name: "nothing", command: ["true"] }], commitId });
  await farm.allEnded(BUILD_LIMIT_MS, 50);
  const [row] = await farm.sql.query<{ started_at: number; ended_at: number }>(
    `select s.started_at, s.ended_at from attempt a join step s on s.attempt_id = a.id
     where a.build_id = $1 and s.number = 0`,
    [build?.id],
  );
  if (!row) throw new Error("Cannot measure: the build has no source step");
  return row.ended_at - row.started_at;
}

function speed(ms: number): string {
  return `${((FILES * FILE_BYTES) / 1000 / ms).toFixed(0)} MB/s`;
}

/** Text that packs about as well as source does, the same at each time. */
export async function fillWithSource(repository: Repository): Promise<void> {
  // Making the commit is not what is measured: no search for deltas, little packing.
  await repository.git("config", "core.compression", "1");
  await repository.git("config", "pack.window", "0");
  const random = numbers();
  const bytes = textLikeSource(random);
  for (let file = 0; file < FILES; file++) {
    const folder = join(repository.path, `package-${file % 50}`);
    await mkdir(folder, { recursive: true });
    const from = random() % (bytes.length - FILE_BYTES);
    await writeFile(join(folder, `file-${file}.txt`), bytes.subarray(from, from + FILE_BYTES));
  }
  for (let run = 1; run <= RUNS; run++) {
    await repository.commit("A large tree", { "changed.txt": `${run}\n` });
  }
}
