/**
 * Machines that people borrow, as somebody at a computer feels them: until an idle machine is theirs, and until `true` has run on it.
 *
 * One real buildlet process waits. The client is gRPC over TLS with one connection, as the gomote command keeps it. `create` ends with the message
 * that names the instance: in between lie the quota, the claim, emptying the machine and asking for its work folder. `run` ends with the
 * status of the stream. Each instance is destroyed before the next, and the machine given back.
 */
import { readFile } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Gomote } from "../src/wire/gomote/gen/barnraiser_pb.ts";
import { GomoteService } from "../src/wire/gomote/gen/gomote_pb.ts";
import type { Bench } from "./bench.ts";
import { borrower } from "./borrower.ts";
import { BenchFarm } from "./farm.ts";
import { atMost, percentile } from "./figure.ts";
import { measureShell } from "./gomote-shell.ts";
import { delay } from "./wait.ts";

const RUNS = 5;
const SAMPLES = 30;
const WARM_UP = 10;
/** The machine is emptied and given back meanwhile. */
const PAUSE_MS = 60;
const TYPE = "linux-amd64-bench";

export const gomote: Bench = {
  name: "gomote",
  about:
    "milliseconds until an idle machine is somebody's, until a command has run there, and until a key is echoed in its shell",
  limitMs: 120_000,
  async run(context) {
    await using farm = await BenchFarm.start({ signal: context.signal, flags: ["-listen-ssh", "127.0.0.1:0"] });
    await using _machine = await farm.machine("idle");
    const { token } = await borrower(farm, "alice");
    const ca = await readFile(farm.certificate.caFile);
    const transport = createGrpcTransport({ baseUrl: `https://localhost:${farm.port}`, nodeOptions: { ca } });
    const client = createClient(GomoteService, transport);
    const options = { headers: { authorization: `Bearer ${token}` }, signal: context.signal };

    const create = async (): Promise<string> => {
      let gomoteId = "";
      for await (const { instance } of client.createInstance({ builderType: TYPE }, options)) {
        gomoteId = instance?.gomoteId ?? "";
      }
      return gomoteId;
    };
    const command = async (gomoteId: string): Promise<void> => {
      const request = { gomoteId, command: "true", systemLevel: true };
      for await (const _ of client.executeCommand(request, options));
    };
    const sample = async (count: number) => {
      const spans = { create: [] as number[], run: [] as number[] };
      for (let n = 0; n < count; n++) {
        const began = performance.now();
        const gomoteId = await create();
        spans.create.push(performance.now() - began);
        for (let times = 0; times < 3; times++) {
          const asked = performance.now();
          await command(gomoteId);
          spans.run.push(performance.now() - asked);
        }
        await client.destroyInstance({ gomoteId }, options);
        await delay(PAUSE_MS, context.signal);
      }
      return spans;
    };

    await sample(WARM_UP);
    const [created, ran]: [number[], number[]] = [[], []];
    for (let run = 1; run <= RUNS; run++) {
      const spans = await sample(SAMPLES);
      created.push(percentile(spans.create, 50));
      ran.push(percentile(spans.run, 50));
      context.note(`run ${run} of ${RUNS}: create ${created.at(-1)?.toFixed(1)} ms, run ${ran.at(-1)?.toFixed(1)} ms`);
    }
    context.report({ figure: "create-p50", unit: "ms", values: created, goal: atMost(50) });
    context.report({ figure: "run-p50", unit: "ms", values: ran, goal: atMost(40) });

    const gomoteId = await create();
    const own = createClient(Gomote, transport);
    const { sshAddress: address } = await own.describeInstance({ gomoteId }, options);
    const sign = async (publicSshKey: Uint8Array) =>
      (await client.signSSHKey({ gomoteId, publicSshKey: new Uint8Array(publicSshKey) }, options)).signedPublicSshKey;
    await measureShell(context, { gomoteId, address, sign });
  },
};
