/**
 * A farm of real processes that lends machines of one type to its members, and the computer of one of them, alice, with the command that it
 * fetched.
 */
import { spawn } from "node:child_process";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:https";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import type { BuilderInput, RepoInput } from "../../src/config/input.ts";
import { Process } from "./process.ts";
import { temporaryFolder } from "./repository.ts";

export const TYPE = "host-linux-amd64-lent";
const LIMIT_MS = 120_000;

export interface LentFarmOptions {
  /** One when left out. */
  readonly machines?: number;
  readonly repos?: readonly RepoInput[];
  readonly builders?: readonly BuilderInput[];
  /** Further flags of the coordinator. */
  readonly flags?: readonly string[];
}

export interface Said {
  readonly status: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TypedOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Buffer;
}

export class LentFarm implements AsyncDisposable {
  readonly coordinator: Process;
  /** HOST:PORT of the TLS port. */
  readonly address: string;
  /** Of the pages. */
  readonly http: string;
  readonly caFile: string;
  readonly folder: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    folder: string,
    coordinator: Process,
    { https, http }: { https: string; http: string },
    stack: AsyncDisposableStack,
  ) {
    this.folder = folder;
    this.coordinator = coordinator;
    this.address = `localhost:${new URL(https).port}`;
    this.http = http;
    this.caFile = join(folder, "farm", "tls", "ca.pem");
    this.#stack = stack;
  }

  static async start({ machines = 1, repos = [], builders = [], flags = [] }: LentFarmOptions = {}): Promise<LentFarm> {
    await using stack = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const config = join(folder, "farm.config.ts");
    const host = { hostType: TYPE, trust: "team", gomote: "members" };
    await writeFile(config, `export default ${JSON.stringify({ repos, hosts: [host], builders })};\n`);
    const data = join(folder, "farm");
    const listen = ["-listen", "localhost:0", "-http", "localhost:0"];
    const coordinator = stack.use(
      Process.program("coordinator.js", ["-config", config, "-data", data, ...listen, ...flags]),
    );
    await coordinator.says(/The farm runs/);
    const addresses = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8"));
    const farm = new LentFarm(folder, coordinator, addresses, stack.move());
    try {
      await farm.#begin(config, machines);
    } catch (error) {
      await farm[Symbol.asyncDispose]();
      throw error;
    }
    return farm;
  }

  async #begin(config: string, machines: number): Promise<void> {
    const key = join(this.folder, "key");
    await writeFile(key, await this.beside("genbuilderkey.js", "-config", config, TYPE), { mode: 0o600 });
    for (let at = 1; at <= machines; at++) {
      const workDir = join(this.folder, `work-${at}`);
      await mkdir(workDir);
      const flags = [`-coordinator=${this.address}`, `-ca-file=${this.caFile}`, `-reverse-type=${TYPE}`];
      const own = [`-workdir=${workDir}`, `-hostname=m${at}`, "-halt=false", "-health-addr="];
      const env = { HOME: this.folder, GO_BUILD_KEY_PATH: key };
      const machine = this.#stack.use(Process.program("agents/buildlet.mjs", [...flags, ...own], { env }));
      await machine.says(/Registered/);
    }
    await this.beside("coordinator.js", "-add-user", "alice@example.org", "-roles", "member");
  }

  /** What a program says that is run beside the farm, on its data. */
  async beside(program: string, ...flags: string[]): Promise<string> {
    await using run = Process.program(program, ["-data", join(this.folder, "farm"), ...flags]);
    const status = await run.exited;
    if (status !== 0) throw new Error(`${program} ${flags.join(" ")} ended with ${status}: ${run.output}`);
    return run.output;
  }

  /** A token of alice's. */
  async token(...flags: string[]): Promise<string> {
    const said = await this.beside("coordinator.js", "-new-token", "alice@example.org", "-name", "laptop", ...flags);
    return said.split("\n", 1)[0] ?? "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export class Computer {
  readonly home: string;
  /** Where commands are typed. */
  readonly cwd: string;
  /** The command itself, as it was fetched. */
  readonly program: string;

  private constructor(folder: string) {
    this.home = join(folder, "home");
    this.cwd = join(folder, "project");
    this.program = join(folder, "gomote");
  }

  /** One with the command, which knows of no farm. */
  static async start({ address, caFile, folder }: LentFarm): Promise<Computer> {
    const computer = new Computer(folder);
    await mkdir(computer.home);
    await mkdir(computer.cwd);
    await writeFile(computer.program, await fetched(`https://${address}/gomote.mjs`, await readFile(caFile, "utf8")));
    await chmod(computer.program, 0o755);
    return computer;
  }

  /** One whose owner, alice, has logged in. */
  static async loggedIn(farm: LentFarm): Promise<Computer> {
    const computer = await Computer.start(farm);
    const argv = [`-server=${farm.address}`, `-ca-file=${farm.caFile}`, "login", "-token"];
    const said = await computer.gomote(argv, { input: await farm.token() });
    if (said.status !== 0) throw new Error(said.stderr);
    return computer;
  }

  get env(): NodeJS.ProcessEnv {
    return { HOME: this.home, XDG_CONFIG_HOME: "", XDG_CACHE_HOME: "", GOROOT: "" };
  }

  /** `gomote` with these arguments, to its end. */
  async gomote(argv: readonly string[], { env = {}, input = "" }: TypedOptions = {}): Promise<Said> {
    const child = spawn(process.execPath, [this.program, ...argv], {
      cwd: this.cwd,
      env: { ...process.env, ...this.env, ...env },
      timeout: LIMIT_MS,
    });
    const status = new Promise<number | NodeJS.Signals>((resolve, reject) => {
      child.once("error", reject).once("close", (code, signal) => resolve(signal ?? code ?? 0));
    });
    child.stdin.on("error", () => {}); // not every command reads it
    child.stdin.end(input);
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { status: await status, stdout, stderr };
  }

  /** `gomote` with these arguments, begun. */
  begin(argv: readonly string[]): Process {
    return new Process(process.execPath, [this.program, ...argv], { env: this.env, cwd: this.cwd });
  }
}

/** What `curl --cacert` does. */
async function fetched(url: string, ca: string): Promise<Buffer> {
  const response = await new Promise<Parameters<typeof buffer>[0]>((done, failed) =>
    get(url, { ca }, done).once("error", failed),
  );
  return await buffer(response);
}
