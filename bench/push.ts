/**
 * `gomote push`, the program as a developer has it, to a real machine that was borrowed.
 *
 * `ratio`: 200 MB of text in 1,000 files, from the start of the program to its end, with no digest known on either side, against `tar | gzip -1` of
 * the same tree through a bare TLS pipe (tls-pipe.ts), alternating. Then a tree of 50,000 small files, again and again: nothing has
 * changed since the last push, and one file has.
 */
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Repository } from "../e2e/testing/repository.ts";
import type { Bench } from "./bench.ts";
import { borrower } from "./borrower.ts";
import { BenchFarm } from "./farm.ts";
import { atLeast, atMost } from "./figure.ts";
import { root } from "./program.ts";
import { FILE_BYTES, FILES, fillWithSource } from "./source.ts";
import { pipeOverTls } from "./tls-pipe.ts";

const execute = promisify(execFile);
/** Each moves 400 MB and writes half of them to disk. */
const RUNS = 3;
const TYPE = "linux-amd64-bench";
const MANY_FOLDERS = 500;
const FILES_EACH = 100;
/** Digests of files that changed a moment ago are not kept. */
const SETTLE_MS = 2500;

export const push: Bench = {
  name: "push",
  of: "gomote",
  about: "200 MB pushed against tar | gzip -1 through a bare TLS pipe, and 50,000 files that hardly change",
  limitMs: 300_000,
  async run(context) {
    const { signal } = context;
    await using farm = await BenchFarm.start({ signal, fill: fillWithSource });
    await using _machine = await farm.machine("borrowed");
    const env = {
      ...process.env,
      HOME: farm.folder,
      GOROOT: "",
      GOMOTE_SERVER: `localhost:${farm.port}`,
      GOMOTE_CA_FILE: farm.certificate.caFile,
      GOMOTE_TOKEN: (await borrower(farm, "alice")).token,
    };
    const gomote = async (args: readonly string[], cache: string): Promise<{ stdout: string; ms: number }> => {
      const began = performance.now();
      const options = { env: { ...env, XDG_CACHE_HOME: join(farm.folder, cache) }, signal };
      const { stdout } = await execute(process.execPath, [`${root}dist/gomote.mjs`, ...args], options);
      return { stdout, ms: performance.now() - began };
    };
    const id = (await gomote(["create", "-status=false", TYPE], "cache")).stdout.trim();

    const ratios: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      const command = `tar -C ${farm.repository.path} --exclude=.git -cf - . | gzip -1`;
      const bare = await pipeOverTls({ ...farm.certificate, command, signal });
      const ours = await gomote(["push", `-from=${farm.repository.path}`, `-dir=run-${run}`, id], `cache-${run}`);
      ratios.push(bare.ms / ours.ms);
      context.note(`run ${run} of ${RUNS}: ${speed(ours.ms)} pushed, ${speed(bare.ms)} through the bare pipe`);
    }
    context.report({ figure: "ratio", unit: "of bare TLS", values: ratios, goal: atLeast(0.6) });

    await using many = await Repository.make();
    await fillWithMany(many);
    const again = async () => (await gomote(["push", `-from=${many.path}`, "-dir=many", id], "cache")).ms / 1000;
    const first = await again();
    await new Promise((settled) => setTimeout(settled, SETTLE_MS));
    await again(); // what was written a moment before is known from now on
    const unchanged: number[] = [];
    const changed: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      const nothing = await again();
      await writeFile(join(many.path, "folder-0", "file-0.txt"), `run ${run}\n`);
      unchanged.push(nothing);
      changed.push((await again()) - nothing);
      context.note(`run ${run} of ${RUNS}: ${nothing.toFixed(2)} s unchanged, the first took ${first.toFixed(1)} s`);
    }
    context.report({ figure: "unchanged-50000", unit: "s", values: unchanged, goal: atMost(3) });
    context.report({ figure: "one-changed-more", unit: "s", values: changed, goal: atMost(1) });
  },
};

function speed(ms: number): string {
  return `${((FILES * FILE_BYTES) / 1000 / ms).toFixed(0)} MB/s`;
}

async function fillWithMany(repository: Repository): Promise<void> {
  for (let folder = 0; folder < MANY_FOLDERS; folder++) {
    const path = join(repository.path, `folder-${folder}`);
    await mkdir(path);
    const names = Array.from({ length: FILES_EACH }, (_, at) => `file-${at}.txt`);
    await Promise.all(names.map((name) => writeFile(join(path, name), `${folder} ${name}\n`.repeat(50))));
  }
}
