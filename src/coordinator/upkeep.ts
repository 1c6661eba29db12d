/** What a farm does by itself: tells people what is wrong with it, and deletes what is old. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { send } from "../notices/channels.ts";
import { Post } from "../notices/post.ts";
import { Watch } from "../notices/watch.ts";
import { Retention } from "../retention/retention.ts";
import { ExpiredTransfers } from "../retention/transfers.ts";
import type { ReadSecret } from "../source/secrets.ts";
import type { LiveConfig } from "./config-file.ts";
import type { Storage } from "./storage.ts";

export interface UpkeepDeps {
  readonly storage: Storage;
  readonly live: LiveConfig;
  readonly secret: ReadSecret;
  readonly farmName: string;
}

export function startUpkeep(stack: AsyncDisposableStack, { storage, live, secret, farmName }: UpkeepDeps): void {
  const { common, hurried, blobs, startedAt } = storage;
  const { clock } = common;
  const config = () => live.current;
  const place = () => ({ farm: farmName, url: config().publicUrl });
  const channels = { clock, secret, file: (path: string) => resolve(live.base, path) };
  stack.use(new Watch({ ...common, config, problem: () => live.problem, host: hostname(), place, startedAt }));
  stack.use(
    new Post({
      ...common,
      config,
      send: (recipient, message, notice, signal) =>
        send(channels, recipient, config().notify.mail, place(), message, notice, signal),
    }),
  );
  stack.use(new Retention({ ...hurried, config }));
  stack.use(new ExpiredTransfers({ ...hurried, blobs }));
}
