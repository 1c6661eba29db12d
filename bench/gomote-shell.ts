/**
 * A shell on a borrowed machine, as the person who types in it feels it: from a key to its echo, through the stock ssh, the gateway, the
 * coordinator, the machine's connection, its terminal, and back. One key at a time, with a pause between, as people type.
 */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Context } from "./bench.ts";
import { atMost, percentile } from "./figure.ts";
import { delay } from "./wait.ts";

const KEYGEN = "ssh-keygen";
const RUNS = 5;
const KEYS = 300;
const WARM_UP = 50;
const PAUSE_MS = 5;
const LIMIT_MS = 10_000;

export interface ShellTarget {
  readonly gomoteId: string;
  /** HOST:PORT of the gateway. */
  readonly address: string;
  /** A certificate for a public key. */
  readonly sign: (publicKey: Uint8Array) => Promise<Uint8Array>;
}

export async function measureShell(context: Context, { gomoteId, address, sign }: ShellTarget): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "bench-shell-"));
  try {
    const key = join(folder, "key");
    await ended(spawn(KEYGEN, ["-q", "-t", "ed25519", "-N", "", "-f", key]));
    await writeFile(`${key}-cert.pub`, await sign(await readFile(`${key}.pub`)));
    const port = address.slice(address.lastIndexOf(":") + 1);
    const settings = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
    const given = ["-F", "none", "-tt", "-p", port, "-i", key, ...settings.flatMap((each) => ["-o", each])];
    const child = spawn("ssh", [...given, `${gomoteId}@127.0.0.1`], { stdio: ["pipe", "pipe", "ignore"] });
    const terminal = new Typist(child.stdin, child.stdout);
    try {
      await terminal.sees("ready", "echo re''ady; PS1=; cat\r");
      const values: number[] = [];
      for (let run = 0; run <= RUNS; run++) {
        const spans: number[] = [];
        for (let n = 0; n < (run === 0 ? WARM_UP : KEYS); n++) {
          const began = performance.now();
          await terminal.sees("k", "k");
          spans.push(performance.now() - began);
          if (n % 60 === 59) await terminal.sees("\n", "\r");
          await delay(PAUSE_MS, context.signal);
        }
        if (run > 0) values.push(percentile(spans, 99));
        if (run > 0) context.note(`run ${run} of ${RUNS}: echo ${values.at(-1)?.toFixed(1)} ms`);
      }
      context.report({ figure: "shell-echo-p99", unit: "ms", values, goal: atMost(30) });
    } finally {
      child.kill();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Somebody who types and waits for what they see. */
class Typist {
  readonly #input: NodeJS.WritableStream;
  #seen = "";
  #changed: () => void = () => {};

  constructor(input: NodeJS.WritableStream, output: NodeJS.ReadableStream) {
    this.#input = input;
    output.setEncoding("utf8").on("data", (text: string) => {
      this.#seen += text;
      this.#changed();
    });
  }

  async sees(text: string, keys: string): Promise<void> {
    this.#seen = "";
    this.#input.write(keys);
    const limit = setTimeout(() => this.#changed(), LIMIT_MS);
    const end = performance.now() + LIMIT_MS;
    while (!this.#seen.includes(text)) {
      if (performance.now() >= end) throw new Error(`Waited for ${JSON.stringify(text)}, and saw ${this.#seen}`);
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    clearTimeout(limit);
  }
}

function ended(child: ReturnType<typeof spawn>): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`ssh-keygen ended with ${code}`))));
  });
}
