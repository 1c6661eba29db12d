import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type CoordinatorId, coordinatorId, epochMs, minutes } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { coordinatorEnded, coordinatorReachable, coordinatorStarted } from "../store/coordinators.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { certificate } from "../web/certificate.ts";
import { FrontDoor } from "../web/front-door.ts";
import { servePeers } from "../web/peer-files.ts";
import { PeerBlobs } from "./peer-blobs.ts";
import { PeerSignature } from "./peer-signature.ts";
import { certificateDigest, Peers } from "./peers.ts";
import { SharedBlobs } from "./shared-blobs.ts";

const MASTER = "test master";
const never = new AbortController().signal;
const nobody = coordinatorId("P000000000");

/** Coordinators of one farm, each with blobs of its own. */
class Farm implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly database: Awaited<ReturnType<typeof freshDatabase>>;
  readonly #tls: Awaited<ReturnType<typeof certificate>>;

  private constructor(database: Farm["database"], tls: Awaited<ReturnType<typeof certificate>>, folder: string) {
    this.database = this.#stack.use(database);
    this.#tls = tls;
    this.#stack.defer(() => rm(folder, { recursive: true }));
  }

  static async start(): Promise<Farm> {
    const folder = await mkdtemp(join(tmpdir(), "barnraiser-peers-"));
    return new Farm(await freshDatabase(), await certificate({ folder, names: [], now: epochMs(Date.now()) }), folder);
  }

  async coordinator(at: number, blobs: Map<string, () => Readable>, masterKey = MASTER, clock: Clock = systemClock) {
    const { sql } = this.database;
    const self = coordinatorId(`P00000000${at}`);
    await coordinatorStarted(sql, { id: self, host: "test", pid: at, version: "test" }, epochMs(Date.now()));
    const peers = new Peers({ sql, clock: systemClock, log: quiet, self });
    const get = async (key: string) => {
      const body = blobs.get(key)?.();
      if (!body) throw new FarmError("not-found", `Cannot read ${key}`);
      return body;
    };
    const signature = new PeerSignature({ self, clock, masterKey });
    const peerBlobs = new PeerBlobs({ peers, clock, signature });
    const sharedBlobs = new SharedBlobs({ log: quiet, signature, get });
    const local = { host: "127.0.0.1", port: 0 };
    const door = this.#stack.use(
      new FrontDoor({ listen: local, http: local, ...this.#tls, clock: systemClock, log: quiet }),
    );
    await door.open({
      machines: { reverse: () => {}, revdial: () => {} },
      pages: servePeers(sharedBlobs, (_, response) => response.end("a page")),
    });
    const address = `127.0.0.1:${door.ports.tls}`;
    await coordinatorReachable(sql, { id: self, address, certificate: certificateDigest(this.#tls.cert) });
    return { self, peerBlobs, port: door.ports.tls, httpPort: door.ports.http };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

const outcome = async (body: Promise<Readable>): Promise<string> =>
  body.then(
    async (stream) =>
      createHash("sha256")
        .update(await buffer(stream))
        .digest("hex"),
    (error: Error & { code?: string }) => `${error.code}: ${error.message}`,
  );

test("a snapshot is fetched from whichever coordinator has it, whole, and nobody having it is told from not being able to ask", async () => {
  await using farm = await Farm.start();
  const bytes = randomBytes(5_000_000);
  const first = await farm.coordinator(1, new Map());
  await farm.coordinator(2, new Map());
  const third = await farm.coordinator(3, new Map([["snapshots/1-a.b", () => Readable.from([bytes])]]));
  expect(await outcome(first.peerBlobs.fetch("snapshots/1-a.b", nobody, never))).toBe(
    createHash("sha256").update(bytes).digest("hex"),
  );
  for (const holder of [first, third]) {
    expect(await outcome(first.peerBlobs.fetch("snapshots/none", holder.self, never))).toBe(
      'not-found: Cannot read "snapshots/none": no coordinator has it',
    );
  }
  await coordinatorReachable(farm.database.sql, { id: third.self, address: "127.0.0.1:1", certificate: "00" });
  const late = await farm.coordinator(4, new Map());
  expect(await outcome(late.peerBlobs.fetch("snapshots/1-a.b", nobody, never))).toMatch(/^unavailable: .*ECONNREFUSED/);
});

test("a snapshot whose holder has ended cannot be had now, which is not to say that it is no more: the holder comes back with it", async () => {
  await using farm = await Farm.start();
  const { sql } = farm.database;
  const has = new Map([["snapshots/a", () => Readable.from(["a"])]]);
  const asker = await farm.coordinator(1, new Map());
  const holder = await farm.coordinator(2, has);
  await farm.coordinator(3, new Map());
  expect(await outcome(asker.peerBlobs.fetch("snapshots/a", holder.self, never))).toMatch(/^[0-9a-f]{64}$/);
  await coordinatorEnded(sql, holder.self, epochMs(Date.now()));
  const away = `unavailable: Cannot read "snapshots/a" now: Coordinator ${holder.self}, which should have it, is not there`;
  const late = await farm.coordinator(4, new Map());
  expect(await outcome(late.peerBlobs.fetch("snapshots/a", holder.self, never))).toBe(away);
  const again = await farm.coordinator(5, has);
  const later = await farm.coordinator(6, new Map());
  expect(await outcome(later.peerBlobs.fetch("snapshots/a", again.self, never))).toMatch(/^[0-9a-f]{64}$/);
});

test("whoever should have a snapshot is asked before all others, which are asked when it has none", async () => {
  await using farm = await Farm.start();
  const has = (text: string) => new Map([["snapshots/a", () => Readable.from([Buffer.from(text)])]]);
  const first = await farm.coordinator(1, new Map());
  const second = await farm.coordinator(2, has("2"));
  const third = await farm.coordinator(3, has("3"));
  const empty = await farm.coordinator(4, new Map());
  const from = async (holder: CoordinatorId) =>
    (await buffer(await first.peerBlobs.fetch("snapshots/a", holder, never))).toString();
  expect([await from(second.self), await from(third.self)]).toEqual(["2", "3"]);
  for (const holder of [empty.self, nobody]) expect(await from(holder)).toMatch(/^[23]$/);
});

test("a transfer that is cut off is an error of its reader, not a short blob; one that is given up ends", async () => {
  await using farm = await Farm.start();
  const first = await farm.coordinator(1, new Map());
  await farm.coordinator(
    2,
    new Map([
      [
        "snapshots/cut",
        () =>
          Readable.from(
            (async function* () {
              yield Buffer.alloc(100_000);
              throw new Error("the disk broke");
            })(),
          ),
      ],
      [
        "snapshots/endless",
        () =>
          Readable.from(
            (async function* () {
              for (;;) yield Buffer.alloc(100_000);
            })(),
          ),
      ],
    ]),
  );
  await expect(first.peerBlobs.fetch("snapshots/cut", nobody, never).then(buffer)).rejects.toThrow();
  const given = new AbortController();
  const body = await first.peerBlobs.fetch("snapshots/endless", nobody, given.signal);
  const read = buffer(body);
  given.abort(new Error("given up"));
  await expect(read).rejects.toThrow();
});

test("only coordinators of this farm are given blobs, and of these nothing but snapshots, over TLS, for a few minutes", async () => {
  await using farm = await Farm.start();
  const blobs = new Map([
    ["snapshots/a", () => Readable.from(["a"])],
    ["tarballs/x", () => Readable.from(["x"])],
  ]);
  const clock = new FakeClock(epochMs(Date.now()));
  const owner = await farm.coordinator(1, blobs, MASTER, clock);
  const friend = await farm.coordinator(2, new Map());
  const stranger = await farm.coordinator(3, new Map(), "another master");
  const ask = (path: string, authorization = "") =>
    new Promise((resolve, reject) =>
      request(
        {
          host: "127.0.0.1",
          port: owner.port,
          path,
          rejectUnauthorized: false,
          agent: false,
          headers: { authorization },
        },
        (response) => resolve(buffer(response).then((body) => `${response.statusCode} ${body.toString().trim()}`)),
      )
        .on("error", reject)
        .end(),
    );
  expect([
    await ask("/peer/blobs/snapshots/a"),
    await ask("/peer/blobs/snapshots/a", `Barnraiser-Peer ${friend.self} ${Date.now()} ${"0".repeat(64)}`),
    await (await fetch(`http://127.0.0.1:${owner.httpPort}/peer/blobs/snapshots/a`)).text(),
    await ask("/"),
  ]).toEqual([
    "403 not signed by a coordinator of this farm",
    "403 not signed by a coordinator of this farm",
    "over TLS only\n",
    "200 a page",
  ]);
  expect(await outcome(friend.peerBlobs.fetch("snapshots/a", nobody, never))).toMatch(/^[0-9a-f]{64}$/);
  expect(await outcome(friend.peerBlobs.fetch("tarballs/x", nobody, never))).toMatch(/^unavailable/);
  expect(await outcome(friend.peerBlobs.fetch("snapshots/../tarballs/x", nobody, never))).toMatch(/^unavailable/);
  expect(await outcome(stranger.peerBlobs.fetch("snapshots/a", nobody, never))).toMatch(
    /^unavailable: .* answered 403/,
  );
  clock.jump(minutes(6)); // a request from so long ago, replayed
  expect(await outcome(friend.peerBlobs.fetch("snapshots/a", nobody, never))).toMatch(/^unavailable: .* answered 403/);
});
