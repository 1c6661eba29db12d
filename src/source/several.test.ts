/** Several coordinators watch one repository. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { expect, test } from "vitest";
import { Blobs } from "../blobs/blobs.ts";
import { checkFarm } from "../config/check.ts";
import { epochMs } from "../farm/ids.ts";
import { recordBranch, recordRepo } from "../store/commits.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { Source } from "./source.ts";
import { Bench } from "./testing/bench.ts";
import { TestRepository } from "./testing/repository.ts";

/** One more coordinator of the bench's farm, with a data folder of its own. */
async function another(bench: Bench): Promise<Source> {
  const data = join(bench.folder, "another");
  await mkdir(data);
  const source = await Source.open({
    sql: bench.sql,
    bus: { publish: () => {}, subscribe: () => {} },
    log: quiet,
    clock: systemClock,
    random: () => 0,
    blobs: await Blobs.open(join(data, "blobs"), systemClock.now()),
    data,
    base: bench.folder,
    environment: { PATH: process.env.PATH, HOME: data },
  });
  const farm = checkFarm({ repos: [{ name: "app", url: "origin", poll: "24h" }], hosts: [], builders: [] });
  await source.configure(farm.repos, async () => []);
  await expect.poll(() => source.standings()[0]?.looked, { timeout: 10_000 }).toBe(true);
  return source;
}

async function fileOf(source: Source, hash: string): Promise<string> {
  const packed = await buffer(await (await source.tarball("app", hash)).open());
  const [file] = (await unpackTar(gunzipSync(packed))).filter(({ header }) => header.name === "a.txt");
  return Buffer.from(file?.data ?? []).toString();
}

test("a tree of a commit that another coordinator found is packed by one that has not seen it, also when its branch has moved away", async () => {
  await using bench = await Bench.make();
  const repo = await TestRepository.init(join(bench.folder, "origin"));
  await repo.commit("one", { "a.txt": "1" });
  await bench.open([{ name: "app", url: "origin" }]);
  await using other = await another(bench);
  const two = await repo.commit("two", { "a.txt": "2" });
  await bench.look();
  expect(await fileOf(other, two)).toBe("2");
  const three = await repo.commit("three", { "a.txt": "3" });
  await bench.look();
  await repo.git("reset", "-q", "--hard", "HEAD~1");
  await repo.commit("instead", { "a.txt": "4" });
  await bench.look();
  expect(await fileOf(other, three)).toBe("3");
  await expect(fileOf(other, "0".repeat(40))).rejects.toThrow("the farm's mirror has no such commit");
});

test("recordBranch() leaves a branch alone that another coordinator moved meanwhile", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const now = epochMs(Date.now());
  await recordRepo(sql, "app", "origin");
  const commit = (hash: string, ...parents: string[]) => ({
    hash,
    parents,
    authorName: "A",
    authorEmail: "a@example.org",
    committedAt: now,
    message: hash,
  });
  const [one, two, three] = [commit("1"), commit("2", "1"), commit("3", "2")];
  const record = async (was: string | undefined, ...commits: ReturnType<typeof commit>[]) =>
    (await sql.tx((tx) => recordBranch(tx, { repo: "app", branch: "main", was, commits, keepTail: false }, now)))?.map(
      ({ hash }) => hash,
    );
  expect([
    await record(undefined, one),
    await record("1", three, two, one),
    await record("1", two, one), // it saw less, and comes late
    await record(undefined, one), // it saw nothing yet
    await record("3", three, two, one),
  ]).toEqual([["1"], ["3", "2"], undefined, undefined, []]);
  expect(
    await sql.query("select head, count(*)::int as commits from branch join branch_commit using (repo) group by head"),
  ).toEqual([{ head: "3", commits: 3 }]);
});
