/** This computer as a machine of its own farm. */
import { join, resolve } from "node:path";
import { LocalMachines } from "../machines/local/local-machines.ts";
import { builderKey } from "../wire/builder-key/builder-key.ts";
import { DIST } from "./options.ts";
import type { Storage } from "./storage.ts";

/** Opens it without any machine: the configuration says which to start. */
export function openLocal(
  stack: AsyncDisposableStack,
  { common: { clock, log }, secrets }: Storage,
  { data, tlsPort }: { readonly data: string; readonly tlsPort: number },
): LocalMachines {
  return stack.use(
    new LocalMachines({
      coordinator: `localhost:${tlsPort}`,
      key: (hostType) => builderKey(secrets.master, hostType),
      caFile: resolve(secrets.tls.caFile),
      stage0: join(DIST, "agents", "stage0.mjs"),
      folder: resolve(data, "local"),
      clock,
      log,
    }),
  );
}
