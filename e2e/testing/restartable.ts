/**
 * A farm whose only coordinator a test kills and starts again on the same data folder and ports, and machines that dial it from processes of
 * their own.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { builderKey } from "../../src/wire/builder-key/builder-key.ts";
import { Process } from "./process.ts";

const MASTER_KEY = "a master key for tests";

export interface RestartableOptions {
  /** An empty folder. */
  readonly folder: string;
  /** The one host type that all machines have. */
  readonly hostType: string;
  readonly repository: string;
  readonly builders: readonly object[];
}

export class RestartableFarm implements AsyncDisposable {
  readonly data: string;
  readonly #options: RestartableOptions;
  readonly #machines = new Map<string, Process>();
  #addresses = { https: "https://127.0.0.1:0", http: "http://127.0.0.1:0" };
  #coordinator: Process | undefined;

  private constructor(options: RestartableOptions) {
    this.data = join(options.folder, "farm");
    this.#options = options;
  }

  static async start(options: RestartableOptions): Promise<RestartableFarm> {
    const { folder, hostType, repository, builders } = options;
    const farm = {
      repos: [{ name: "app", url: repository, poll: "1s" }],
      hosts: [{ hostType, trust: "team" }],
      builders,
    };
    await writeFile(join(folder, "farm.config.mjs"), `export default ${JSON.stringify(farm)};\n`);
    await writeFile(join(folder, "master.key"), `${MASTER_KEY}\n`);
    await writeFile(join(folder, "machine.key"), builderKey(MASTER_KEY, hostType), { mode: 0o600 });
    await using stack = new AsyncDisposableStack();
    const started = stack.use(new RestartableFarm(options));
    await started.#start();
    stack.move();
    return started;
  }

  /** Address of the pages, without a slash at the end. */
  get pages(): string {
    return this.#addresses.http;
  }

  /** What the coordinator and the machines printed. */
  get output(): string {
    return [this.#coordinator, ...this.#machines.values()].map((program) => program?.output ?? "").join("\n");
  }

  /** Lends a machine; resolves when it is registered. */
  async machine(name: string): Promise<Process> {
    const { folder, hostType } = this.#options;
    const work = join(folder, name);
    await mkdir(work);
    const flags = [
      ...[`-coordinator=${new URL(this.#addresses.https).host}`, `-reverse-type=${hostType}`, `-hostname=${name}`],
      ...[`-ca-file=${join(this.data, "tls/ca.pem")}`, `-workdir=${work}`, "-health-addr=127.0.0.1:0", "-halt=false"],
    ];
    const env = { GO_BUILD_KEY_PATH: join(folder, "machine.key") };
    const program = Process.program("agents/buildlet.mjs", flags, { env });
    this.#machines.set(name, program);
    await program.says(/Registered/);
    return program;
  }

  /** `kill -9` of the coordinator, and the next one. */
  async killAndStart(): Promise<void> {
    this.#coordinator?.kill("SIGKILL");
    await this.#coordinator?.exited;
    await this.#start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#machines.values()].map((machine) => machine[Symbol.asyncDispose]()));
    await this.#coordinator?.[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    const { folder } = this.#options;
    this.#coordinator = Process.program("coordinator.js", [
      ...["-config", join(folder, "farm.config.mjs"), "-data", this.data, "-masterkey", join(folder, "master.key")],
      ...["-listen", new URL(this.#addresses.https).host, "-http", new URL(this.#addresses.http).host],
    ]);
    await this.#coordinator.says(/The farm runs/);
    this.#addresses = JSON.parse(await readFile(join(this.data, "coordinator.json"), "utf8"));
  }
}
