/**
 * Does a farm get slower as it gets older? The grid of 100 builders × 200 commits, and the claim, with 100,000 builds in the
 * database and with 1,000,000.
 *
 * Two farms with the same configuration, one with each past (seed.ts), are asked in turn, so that both see the same machine.
 *
 * page    GET /p/app over one kept connection, from sending the request until the last byte of the page is here: a little more
 *         than the server's own time.
 * claim   The claim statement as the coordinator runs it, with 5,000 leases wanted, on a connection like the coordinator's.
 *
 * The ratios are of the p50s, large by small; a tenth above 1 is what two equal farms differ by.
 */
import { Agent, get } from "node:http";
import type { FarmInput } from "../src/config/input.ts";
import { epochMs, sessionId } from "../src/farm/ids.ts";
import { claimLease, endLease } from "../src/store/leases.ts";
import type { Bench } from "./bench.ts";
import { BenchFarm, REPO } from "./farm.ts";
import { atMost, percentile } from "./figure.ts";
import { seedPast, seedQueue } from "./seed.ts";

const BUILDERS = 100;
const SHOWN = 200;
const SIZES = { small: 100_000, large: 1_000_000 } as const;
const RUNS = 3;
const PAGES = 30;
const CLAIMS = 300;
const WARM_UP = 10;

const HOST_TYPE = "host-linux-amd64-grid";
const CLAIM_TYPE = "host-linux-amd64-claims";
const SESSION = sessionId("0".repeat(32));

export const grid: Bench = {
  name: "grid",
  about: "the grid's server time and the claim's, with 100,000 and with 1,000,000 builds in the database",
  limitMs: 200_000,
  async run(context) {
    const builders = builderNames();
    const config: FarmInput = {
      // Nothing is there, so nothing is fetched: the past is all there is.
      repos: [
        { name: REPO, url: "/nonexistent/repository", branches: "main", poll: "1h", depth: SHOWN, history: SHOWN },
      ],
      hosts: [{ hostType: HOST_TYPE, trust: "team" }],
      builders: builders.map((name) => ({ name, host: HOST_TYPE, steps: ["true"] })),
    };
    const newest = new Date();
    const options = { signal: context.signal, config };
    await using small = await BenchFarm.start(options);
    await using large = await BenchFarm.start(options);
    const farms = { small, large };
    for (const size of ["small", "large"] as const) {
      const started = performance.now();
      const commits = SIZES[size] / BUILDERS;
      const { sql } = farms[size];
      await seedPast(sql, { repo: REPO, branch: "main", builders, hostType: HOST_TYPE, commits, newest });
      await seedQueue(sql, SESSION, CLAIM_TYPE, 5000 + 2 * CLAIMS * RUNS, newest);
      context.note(`${SIZES[size]} builds made in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    }

    using connection = { agent: new Agent({ keepAlive: true }), [Symbol.dispose]: () => connection.agent.destroy() };
    const page = async (farm: BenchFarm): Promise<number> => {
      const started = performance.now();
      const text = await body(`${farm.http}/p/${REPO}`, connection.agent, context.signal);
      const took = performance.now() - started;
      const shown = new Set(text.match(/change number \d+/g)).size;
      if (shown !== SHOWN) throw new Error(`Cannot measure: the grid shows ${shown} commits, not ${SHOWN}`);
      return took;
    };
    const claim = async ({ sql }: BenchFarm): Promise<number> => {
      const started = performance.now();
      const { lease } = await claimLease(sql, SESSION, epochMs(Date.now()));
      const took = performance.now() - started;
      if (!lease) throw new Error("Cannot measure: the claim found nothing");
      await endLease(sql, lease, epochMs(Date.now()), "measured");
      return took;
    };
    const pages = await inTurn(page, PAGES);
    context.report({ figure: "page-p50", unit: "ms", values: pages.small, goal: atMost(60) });
    context.report({ figure: "page-p50-million", unit: "ms", values: pages.large, goal: atMost(60) });
    context.report({ figure: "page-ratio", unit: "", values: pages.ratio, goal: atMost(1.1) });
    const claims = await inTurn(claim, CLAIMS);
    context.report({ figure: "claim-p50", unit: "ms", values: claims.small });
    context.report({ figure: "claim-p50-million", unit: "ms", values: claims.large });
    context.report({ figure: "claim-ratio", unit: "", values: claims.ratio, goal: atMost(1.1) });

    async function inTurn(measure: (farm: BenchFarm) => Promise<number>, count: number) {
      const p50 = { small: [] as number[], large: [] as number[], ratio: [] as number[] };
      for (let i = 0; i < WARM_UP; i++) for (const size of ["small", "large"] as const) await measure(farms[size]);
      for (let run = 0; run < RUNS; run++) {
        const spans = { small: [] as number[], large: [] as number[] };
        for (let i = 0; i < count; i++) {
          context.signal.throwIfAborted();
          for (const size of ["small", "large"] as const) spans[size].push(await measure(farms[size]));
        }
        const [s, l] = [percentile(spans.small, 50), percentile(spans.large, 50)];
        p50.small.push(s);
        p50.large.push(l);
        p50.ratio.push(l / s);
      }
      return p50;
    }
  },
};

function builderNames(): string[] {
  const names: string[] = [];
  for (const os of ["linux", "darwin", "windows", "freebsd", "openbsd"]) {
    for (const arch of ["amd64", "arm64", "386", "riscv64"]) {
      for (const variant of ["", "-race", "-longtest", "-nocgo", "-clang"]) names.push(`${os}-${arch}${variant}`);
    }
  }
  return names.slice(0, BUILDERS);
}

function body(url: string, agent: Agent, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = get(url, { agent, signal, headers: { accept: "text/html" } }, (response) => {
      const chunks: Buffer[] = [];
      response
        .on("data", (chunk: Buffer) => chunks.push(chunk))
        .once("end", () => {
          const text = Buffer.concat(chunks).toString();
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`Cannot measure ${url}: it answers ${response.statusCode}: ${text.slice(0, 200)}`));
        })
        .once("error", reject);
    });
    call.once("error", reject);
  });
}
