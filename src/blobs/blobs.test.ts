import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { test as base, expect } from "vitest";
import { messageOf } from "../farm/errors.ts";
import { epochMs, minutes, ms, plus } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { BlobCache } from "./blob-cache.ts";
import { Blobs } from "./blobs.ts";

const NOW = epochMs(Date.now());

const test = base.extend<{ root: string; blobs: Blobs }>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of fixtures off the pattern
  root: async ({}, use) => {
    const root = await mkdtemp(join(tmpdir(), "blobs-"));
    await use(root);
    await rm(root, { recursive: true, force: true });
  },
  blobs: async ({ root }, use) => use(await Blobs.open(root, NOW)),
});

async function* bytes(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}
async function* broken(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("half");
  throw new Error("cut");
}
// biome-ignore lint/correctness/useYield: it fails before it has anything
async function* refused(): AsyncGenerator<Uint8Array> {
  throw new Error("cut");
}
const sha = (text: string) => createHash("sha256").update(text).digest("hex");

test("put() keeps all of the content or changes nothing", async ({ blobs, root }) => {
  expect(await blobs.put("a/b.bin", bytes("one", "two"))).toEqual({ bytes: 6, digest: sha("onetwo") });
  await expect(blobs.put("a/b.bin", broken())).rejects.toThrow("cut");
  expect((await buffer(await blobs.get("a/b.bin"))).toString()).toBe("onetwo");
  expect(await blobs.list("a")).toEqual([{ key: "a/b.bin", bytes: 6, usedAt: expect.any(Number) }]);
  expect(await readdir(join(root, ".partial"))).toEqual([]);
});

test("whole() gives a blob at once, and says when there is none", async ({ blobs }) => {
  await blobs.put("x", bytes("con", "tent"));
  expect((await blobs.whole("x")).toString()).toBe("content");
  await expect(blobs.whole("y")).rejects.toMatchObject({
    code: "not-found",
    message: 'Cannot read "y": there is no such blob',
  });
});

test("get() gives the whole blob even if it is deleted meanwhile, and says when there is none", async ({ blobs }) => {
  await blobs.put("x", bytes("content"));
  const stream = await blobs.get("x");
  await blobs.delete("x");
  await blobs.delete("x");
  expect((await buffer(stream)).toString()).toBe("content");
  await expect(blobs.get("x")).rejects.toMatchObject({
    code: "not-found",
    message: 'Cannot read "x": there is no such blob',
  });
  expect([await blobs.stat("x"), await blobs.list("none")]).toEqual([undefined, []]);
});

test("no key leads outside the folder", async ({ blobs }) => {
  for (const key of [
    "",
    ".",
    "..",
    "../x",
    "/x",
    "a/../../x",
    "a//b",
    "a/",
    "a\\b",
    ".partial/x",
    "a/.b",
    "a\0b",
    "ü",
    "a".repeat(401),
  ]) {
    const refused = await blobs.put(key, bytes("x")).catch(messageOf);
    expect(refused).toMatch(/^Cannot use ".*" as the key of a blob/);
  }
});

test("open() removes what a process that died left half-written, and leaves what another one is writing", async ({
  blobs,
  root,
}) => {
  await blobs.put("kept", bytes("x"));
  await writeFile(join(root, ".partial", "dead"), "half");
  const again = await Blobs.open(root, NOW);
  expect([await readdir(join(root, ".partial")), (await again.stat("kept"))?.bytes]).toEqual([["dead"], 1]);
  await Blobs.open(root, plus(NOW, minutes(61)));
  expect(await readdir(join(root, ".partial"))).toEqual([]);
});

test("BlobCache makes a blob once for all who ask, and again after a failure", async ({ blobs }) => {
  const cache = await BlobCache.open({ blobs, prefix: "c", maxBytes: 100, clock: new FakeClock() });
  let made = 0;
  const make = () => {
    made++;
    return made === 1 ? refused() : bytes("tree");
  };
  const failed = await Promise.all([1, 2].map(() => cache.get("n", make).catch(messageOf)));
  const got = await Promise.all([1, 2].map(() => cache.get("n", make)));
  const later = await cache.get("n", make);
  const written = await Promise.all([...got, later].map((c) => c.written));
  expect([failed, made, written]).toEqual([["cut", "cut"], 2, Array(3).fill({ bytes: 4, digest: sha("tree") })]);
  expect((await buffer(await later.open())).toString()).toBe("tree");
});

test("BlobCache deletes those unused for longest, also after a restart, and makes again what somebody deleted", async ({
  blobs,
}) => {
  const clock = new FakeClock();
  const options = { blobs, prefix: "c", maxBytes: 10, clock };
  const cache = await BlobCache.open(options);
  const use = async (from: BlobCache, name: string, text = "....") => {
    await clock.advance(ms(1000));
    return (await from.get(name, () => bytes(text))).written;
  };
  const names = async () => (await blobs.list("c")).map((b) => b.key.replace(/^c\/(.*)\..*$/, "$1")).sort();
  for (const name of ["a", "b", "a", "c"]) await use(cache, name);
  expect([await names(), cache.bytes]).toEqual([["a", "c"], 8]);
  await use(cache, "a");

  await blobs.put("c/stray", bytes("not ours"));
  const next = await BlobCache.open(options);
  expect([await names(), next.bytes]).toEqual([["a", "c"], 8]);
  await use(next, "d");
  expect(await names()).toEqual(["a", "d"]);
  await use(next, "huge", "x".repeat(50));
  expect(await names()).toEqual(["huge"]);

  for (const { key } of await blobs.list("c")) await blobs.delete(key);
  expect((await use(next, "huge", "again")).bytes).toBe(5);
});

test("BlobCache gives what is being made as it comes, to each reader from the beginning, and its failure", async ({
  blobs,
}) => {
  const cache = await BlobCache.open({ blobs, prefix: "c", maxBytes: 100, clock: new FakeClock() });
  for (const end of ["well", "badly"]) {
    const more = Promise.withResolvers<void>();
    const making = async function* () {
      yield Buffer.from("first ");
      await more.promise;
      yield Buffer.from("second");
      if (end === "badly") throw new Error("cut");
    };
    const get = async () => (await cache.get(end, making)).open();
    const early = await get();
    const late = await get();
    expect(
      String(
        await early[Symbol.asyncIterator]()
          .next()
          .then((r) => r.value),
      ),
    ).toBe("first ");
    more.resolve();
    const read = await buffer(late).then(String, messageOf);
    expect(read).toBe(end === "well" ? "first second" : "cut");
    if (end === "well") expect(String(await buffer(await get()))).toBe("first second");
    early.destroy();
  }
});
