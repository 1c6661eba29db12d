/**
 * Snapshots: the tree of a build after its steps, kept so that helpers, retries and rebuilds of the same commit need
 * not make it again.
 *
 *   none -steps ended well-> uploading      beside the tests: nobody waits for it; failures are noted
 *   uploading -all of it came-> kept        for the builder's `keep`; one that is used lives on for as long again
 *   uploading -machine gone, over the limit, disk full, too slow-> none
 *   kept -expired-> none                    row first, then blob; a blob that has no row is swept
 *   kept -its holder has ended-> kept       not used meanwhile; one that is made then is kept in its place
 *   kept -its bytes are others-> none       noticed while they go to a machine, before anything is built on them: the
 *                                           attempt does the steps
 *
 * A snapshot is found by commit, builder and a digest of all in the recipe that decides what the tree is. Its row has
 * the SHA-256 of its bytes. So the tree of another commit, or one that was made in another way, is never used, whatever
 * is in the folder of blobs. Builders without tests keep none: nothing would be left to do on it.
 */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { Blobs } from "../blobs/blobs.ts";
import type { OtherTree, Recipe, SnapshotSpec } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { sizeText } from "../farm/size-text.ts";
import { within } from "../farm/within.ts";
import type { Begun } from "../store/attempts.ts";
import {
  blobsWithoutSnapshot,
  deleteExpiredSnapshots,
  deleteSnapshot,
  findSnapshot,
  insertSnapshot,
  newestSnapshot,
  noteSnapshot,
  type Snapshot,
  type SnapshotKey,
  snapshotUsed,
} from "../store/snapshots.ts";
import type { Sql } from "../store/sql.ts";
import { CheckedBytes } from "./checked-bytes.ts";
import type { BuildMachine } from "./machine.ts";
import { withoutExcluded } from "./snapshot-filter.ts";

/** An upload that takes longer is given up. */
export const SNAPSHOT_UPLOAD_LIMIT: Ms = minutes(15);
const UNPACK_LIMIT: Ms = minutes(30);
/** How long a machine whose build has ended is kept for its upload. */
export const UPLOAD_AFTER_BUILD: Ms = seconds(30);
/** How many bytes of the disk snapshots leave free, since the database may be on it. */
export const LEAVE_FREE: number = 1024 ** 3;
const LOOK_AT_DISK_EVERY: number = 64 * 1024 ** 2;
const TIDY_EVERY: Ms = minutes(5);
const BITE = 20;
const BITE_PAUSE: Ms = ms(200);
/**
 * How old a blob without a row must be to be deleted. A blob is written before its row, which may take a while when the
 * database is away.
 */
const SWEEP_AFTER: Ms = minutes(60);
const PREFIX = "snapshots";

export interface SnapshotsDeps {
  readonly sql: Sql;
  readonly bus: Pick<Bus, "publish">;
  readonly clock: Clock;
  readonly log: Log;
  readonly blobs: Pick<Blobs, "begin" | "get" | "delete" | "list" | "free">;
  readonly coordinator: CoordinatorId;
  /**
   * Reads the bytes that are not in our own folder from another coordinator. Throws `not-found` when none has them,
   * `unavailable` when that cannot be told now.
   */
  readonly elsewhere?: (snapshot: Snapshot, signal: AbortSignal) => Promise<Readable>;
}

/** The parts of an attempt that its snapshot needs. */
export type SnapshotOf = Pick<Begun, "attempt" | "build" | "recipe"> & Pick<Lease, "epoch">;

/**
 * How writing a snapshot ended. `bad`: it was damaged and is dropped, or it is unavailable now and stays. The folder is
 * empty again.
 */
export type Restored = { readonly skippedLinks: number } | { readonly bad: string };

export interface Upload {
  /** Resolves when the upload has ended, with whether there is a snapshot now. */
  readonly kept: Promise<boolean>;
  /**
   * To be called when the build has ended: the upload may take UPLOAD_AFTER_BUILD more, then it is given up. Resolves
   * when it has ended.
   */
  finish(): Promise<void>;
}

const NO_UPLOAD: Upload = { kept: Promise.resolve(false), finish: () => Promise.resolve() };

export class Snapshots implements AsyncDisposable {
  readonly #deps: SnapshotsDeps;
  readonly #stop = new AbortController();
  readonly #uploads = new Set<Promise<boolean>>();
  #tidying: Promise<void> = Promise.resolve();

  constructor(deps: SnapshotsDeps) {
    this.#deps = deps;
  }

  /** Begins to delete what has expired, every TIDY_EVERY. */
  start(): void {
    this.#tidying = this.#tidy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "the coordinator was stopped"));
    await Promise.all([...this.#uploads, this.#tidying]);
  }

  /** The snapshot that an attempt of this build may start from. */
  async find({ build, recipe }: Pick<SnapshotOf, "build" | "recipe">): Promise<Snapshot | undefined> {
    if (!keeps(recipe)) return undefined;
    return await findSnapshot(this.#deps.sql, keyOf(build, recipe), this.#deps.clock.now());
  }

  /** What a log says about a snapshot. */
  about({ bytes, madeAt, build, machine }: Snapshot): string {
    const age = durationText(ms(Math.max(0, this.#deps.clock.now() - madeAt)));
    return `snapshot: ${sizeText(bytes)}, made ${age} ago by build ${build} on ${machine}`;
  }

  /**
   * Writes the tree that a commit is tested with to `dir`, if its builder has kept it. Resolves with what a log says
   * about it. Undefined: there is none, or it was bad, and `dir` is empty again. Rejects as `restore`.
   */
  async writeOther(
    other: OtherTree,
    dir: string,
    machine: BuildMachine,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { sql, clock } = this.#deps;
    const { repo, hash, builtBy: builder } = other;
    if (builder === undefined) return undefined;
    const snapshot = await newestSnapshot(sql, { repo, hash, builder }, clock.now());
    if (snapshot === undefined) return undefined;
    const restored = await this.#restore(snapshot, dir, { keep: ms(0), limit: UNPACK_LIMIT }, machine, signal);
    return "bad" in restored ? undefined : this.about(snapshot);
  }

  /**
   * Writes a snapshot to `machine`, in the folder of the recipe's source. Rejects for the machine's faults, and when
   * `signal` aborts.
   */
  restore(snapshot: Snapshot, recipe: Recipe, machine: BuildMachine, signal: AbortSignal): Promise<Restored> {
    const times = { keep: ms(recipe.snapshot?.keepMs ?? 0), limit: ms(recipe.limits?.uploadMs ?? UNPACK_LIMIT) };
    return this.#restore(snapshot, recipe.sourceDir, times, machine, signal);
  }

  /**
   * Writes a snapshot to `dir`. `keep`: how long it lives at least, from now on. `limit`: how long the writing may
   * take.
   */
  async #restore(
    snapshot: Snapshot,
    dir: string,
    times: { readonly keep: Ms; readonly limit: Ms },
    machine: BuildMachine,
    signal: AbortSignal,
  ): Promise<Restored> {
    const { clock, sql, log } = this.#deps;
    const what = `writing a snapshot to ${machine.name}`;
    return await within(clock, times.limit, [machine.gone, signal], what, async (limited) => {
      const checked = new CheckedBytes(snapshot, () => this.#open(snapshot, limited));
      const body = Readable.from(checked.read(), { objectMode: false });
      try {
        const { skippedLinks = 0 } = await machine.client.writeTgz(dir, body, limited);
        if (!checked.whole) {
          throw new FarmError("machine-broken", "it took a part of a snapshot for the whole");
        }
        const now = clock.now();
        const until = plus(now, times.keep);
        await this.#orLog(snapshotUsed(sql, snapshot.blob, until, now), "Could not note that a snapshot was used");
        return { skippedLinks };
      } catch (error) {
        limited.throwIfAborted();
        // The bytes are right, and still the machine refuses them as an archive.
        const refused = error instanceof FarmError && error.code === "bad-request" ? error : undefined;
        const trouble = checked.trouble ?? refused;
        if (trouble === undefined) throw error;
        const away = trouble instanceof FarmError && trouble.code === "unavailable";
        const bad = messageOf(trouble);
        log.warn({ snapshot: snapshot.blob, machine: machine.name, why: bad }, "A snapshot could not be used");
        if (!away) await this.#orLog(this.#drop(snapshot), "Could not delete a damaged snapshot");
        await machine.client.removeAll([dir], limited);
        return { bad };
      } finally {
        body.destroy();
      }
    });
  }

  /** Begins to keep the tree as it is on `machine` now. Never throws; `signal` ends it. */
  keep(of: SnapshotOf, machine: BuildMachine, signal: AbortSignal): Upload {
    const { snapshot } = of.recipe;
    if (!snapshot || !keeps(of.recipe)) return NO_UPLOAD;
    const enough = new AbortController();
    const stop = AbortSignal.any([signal, enough.signal, this.#stop.signal]);
    const kept = this.#upload(of, snapshot, machine, stop).finally(() => this.#uploads.delete(kept));
    this.#uploads.add(kept);
    const finish = async (): Promise<void> => {
      const done = new AbortController();
      const { clock } = this.#deps;
      const late = clock.sleep(UPLOAD_AFTER_BUILD, done.signal).then(
        () =>
          enough.abort(
            new FarmError(
              "timed-out",
              `the build ended, and ${durationText(UPLOAD_AFTER_BUILD)} later it was still under way`,
            ),
          ),
        () => {},
      );
      await kept;
      done.abort();
      await late;
    };
    return { kept, finish };
  }

  /** Deletes at most `limit` snapshots that have expired. Resolves with how many. */
  async expire(limit: number): Promise<number> {
    const { sql, clock, blobs } = this.#deps;
    const expired = await deleteExpiredSnapshots(sql, limit, clock.now());
    for (const blob of expired) await blobs.delete(blob);
    return expired.length;
  }

  /**
   * Deletes blobs that no row has: a coordinator died before it wrote the row, or the row was replaced or deleted
   * elsewhere.
   */
  async sweep(): Promise<void> {
    const { sql, clock, blobs } = this.#deps;
    const old = (await blobs.list(PREFIX)).filter(({ usedAt }) => usedAt < clock.now() - SWEEP_AFTER);
    const keys = old.map(({ key }) => key);
    for (const key of keys.length === 0 ? [] : await blobsWithoutSnapshot(sql, keys)) await blobs.delete(key);
  }

  async #upload(of: SnapshotOf, spec: SnapshotSpec, machine: BuildMachine, stop: AbortSignal): Promise<boolean> {
    const { sql, bus, clock, log } = this.#deps;
    const began = clock.monotonic();
    let note: string;
    let kept = false;
    try {
      // Another attempt may have kept it meanwhile, or this one before its machine came back.
      const found = await findSnapshot(sql, keyOf(of.build, of.recipe), clock.now());
      if (found && !found.away) return true;
      const limit = ms(of.recipe.limits?.uploadMs ?? SNAPSHOT_UPLOAD_LIMIT);
      const bytes = await within(clock, limit, [machine.gone, stop], "its upload", (limited) =>
        this.#store(of, spec, machine, limited),
      );
      kept = true;
      if (bytes === undefined) return kept;
      note = `kept: ${sizeText(bytes)} in ${durationText(ms(clock.monotonic() - began))}`;
    } catch (error) {
      note = `not kept: ${messageOf(error)}`;
      log.warn({ build: of.build.id, machine: machine.name, why: messageOf(error) }, "A snapshot was not kept");
    }
    try {
      await noteSnapshot(sql, of, note);
      bus.publish(`build:${of.build.id}`);
    } catch (error) {
      log.warn({ build: of.build.id, error: messageOf(error) }, "Could not note what became of a snapshot");
    }
    return kept;
  }

  /** Stores the tree of a build. Resolves with its size; undefined: another one was stored first. */
  async #store(
    { build, recipe }: SnapshotOf,
    spec: SnapshotSpec,
    machine: BuildMachine,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { sql, clock, blobs, coordinator } = this.#deps;
    const key = keyOf(build, recipe);
    await this.#throwIfDiskIsFull(0);
    const { body, excluded } = await machine.client.readSnapshot(recipe.sourceDir, spec.exclude, signal);
    const packed = excluded ? body : withoutExcluded(body, spec.exclude);
    const blob = (digest: string) => `${PREFIX}/${key.commitId}-${key.make.slice(0, 16)}.${digest}`;
    let written: { readonly bytes: number; readonly digest: string };
    try {
      written = await blobs.begin(({ digest }) => blob(digest), this.#limited(packed, spec, signal)).written;
    } finally {
      body.destroy();
    }
    const { bytes, digest: sha256 } = written;
    const now = clock.now();
    const row = { ...key, blob: blob(sha256), bytes, sha256, coordinator, build: build.id, machine: machine.name };
    if (await insertSnapshot(sql, { ...row, expiresAt: plus(now, ms(spec.keepMs)) }, now)) return bytes;
    // A snapshot with the same bytes has the same blob.
    const theirs = await findSnapshot(sql, key, now);
    if (theirs?.blob !== row.blob) await blobs.delete(row.blob);
    return undefined;
  }

  async *#limited(packed: AsyncIterable<Buffer>, spec: SnapshotSpec, signal: AbortSignal): AsyncGenerator<Buffer> {
    let bytes = 0;
    let looked = 0;
    for await (const chunk of packed) {
      signal.throwIfAborted();
      bytes += chunk.length;
      if (bytes > spec.limitBytes) {
        const limit = sizeText(spec.limitBytes);
        throw new FarmError(
          "too-large",
          `packed it is larger than the limit of ${limit} (snapshot.limit of the builder)`,
        );
      }
      if (bytes - looked > LOOK_AT_DISK_EVERY) {
        await this.#throwIfDiskIsFull(bytes);
        looked = bytes;
      }
      yield chunk;
    }
  }

  async #throwIfDiskIsFull(written: number): Promise<void> {
    const free = await this.#deps.blobs.free();
    if (free >= LEAVE_FREE) return;
    const after = written === 0 ? "" : ` after ${sizeText(written)} of it`;
    throw new FarmError(
      "unavailable",
      `the coordinator's disk has only ${sizeText(free)} left${after}, and leaves ${sizeText(LEAVE_FREE)} free`,
    );
  }

  /** Opens the bytes of a snapshot: those in our own folder, else those of another coordinator. */
  async #open(snapshot: Snapshot, signal: AbortSignal): Promise<Readable> {
    const { blobs, elsewhere } = this.#deps;
    try {
      return await blobs.get(snapshot.blob);
    } catch (error) {
      const missing = error instanceof FarmError && error.code === "not-found";
      if (!missing || !elsewhere) throw error;
      return await elsewhere(snapshot, signal);
    }
  }

  /** Does work that the build does not depend on: a failure is only logged. */
  async #orLog(work: Promise<void>, what: string): Promise<void> {
    await work.catch((error: unknown) => this.#deps.log.warn({ error: messageOf(error) }, what));
  }

  /** Deletes a snapshot: its row first, since nobody may find a snapshot whose bytes are gone. */
  async #drop(snapshot: Snapshot): Promise<void> {
    await deleteSnapshot(this.#deps.sql, snapshot.blob);
    await this.#deps.blobs.delete(snapshot.blob);
  }

  async #tidy(): Promise<void> {
    const { clock, log } = this.#deps;
    while (!this.#stop.signal.aborted) {
      try {
        while ((await this.expire(BITE)) === BITE) await clock.sleep(BITE_PAUSE, this.#stop.signal);
        await this.sweep();
      } catch (error) {
        if (!this.#stop.signal.aborted) log.warn({ error: messageOf(error) }, "Could not delete expired snapshots");
      }
      await clock.sleep(TIDY_EVERY, this.#stop.signal).catch(() => {});
    }
  }
}

/** Whether builds by this recipe keep and use snapshots. */
export function keeps({ snapshot, tests, stopAfterMake }: Recipe): boolean {
  return snapshot !== undefined && tests !== undefined && !stopAfterMake;
}

function keyOf({ commitId, builder }: SnapshotOf["build"], recipe: Recipe): SnapshotKey {
  return { commitId, builder, make: makeDigest(recipe) };
}

/** A digest of all in a recipe that may change the tree after its steps: everything except what comes later. */
export function makeDigest({ tests, limits, stopAfterMake, snapshot, ...make }: Recipe): string {
  const { exclude = [], remove } = snapshot ?? {};
  const text = JSON.stringify({ ...make, exclude, remove }, inOneOrder);
  return createHash("sha256").update(text).digest("hex");
}

/**
 * Sorts the fields of objects for JSON.stringify(), since the database gives those of a recipe back in another order.
 */
function inOneOrder(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
