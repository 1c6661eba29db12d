/** This computer as machines of its own farm, where the configuration says so. */
import { hostname } from "node:os";
import { join } from "node:path";
import type { FarmConfig } from "../../config/effective.ts";
import { LocalMachine } from "./local-machine.ts";

type LocalMachinesOptions = Omit<ConstructorParameters<typeof LocalMachine>[0], "name" | "hostType" | "key"> & {
  readonly key: (hostType: string) => string;
};

/** One machine on this computer for each host type whose pool is `local`. */
export class LocalMachines implements AsyncDisposable {
  readonly #options: LocalMachinesOptions;
  readonly #machines = new Map<string, LocalMachine>();

  constructor(options: LocalMachinesOptions) {
    this.#options = options;
  }

  async configure(farm: FarmConfig): Promise<void> {
    const wanted = new Set(farm.hosts.filter((host) => host.pool === "local").map((host) => host.hostType));
    for (const [hostType, machine] of this.#machines) {
      if (wanted.has(hostType)) continue;
      this.#machines.delete(hostType);
      await machine[Symbol.asyncDispose]();
    }
    for (const hostType of wanted) {
      if (this.#machines.has(hostType)) continue;
      const { key, folder, ...rest } = this.#options;
      const name = hostname().split(".", 1)[0] || "localhost";
      const own = { name, hostType, key: key(hostType), folder: join(folder, hostType) };
      this.#machines.set(hostType, new LocalMachine({ ...rest, ...own }));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#machines.values()].map((machine) => machine[Symbol.asyncDispose]()));
  }
}
