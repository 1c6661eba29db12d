import { chown } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { minutes, ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { LONGEST_WAIT, waitAfter } from "./repo-watch.ts";
import { Bench } from "./testing/bench.ts";
import { TestRepository } from "./testing/repository.ts";

test("waitAfter() is the poll give or take a tenth, and doubles with each failure up to a limit", () => {
  const poll = seconds(15);
  expect([
    [waitAfter(poll, 0, 0), waitAfter(poll, 0, 0.5), waitAfter(poll, 0, 1)],
    [1, 2, 3, 9, 2000].map((failures) => waitAfter(poll, failures, 0.5)),
    waitAfter(minutes(60), 3, 0.5),
  ]).toEqual([[13_500, 15_000, 16_500], [30_000, 60_000, 120_000, LONGEST_WAIT, LONGEST_WAIT], minutes(60)]);
});

test("a repository is looked at every poll, less often while it fails, and at once when poked", async () => {
  await using bench = await Bench.make();
  const clock = new FakeClock();
  const looks = () => bench.topics.filter((topic) => topic === "repo:app").length;
  await bench.open([{ name: "app", url: "missing", poll: "10s" }], { clock });
  const asleep = () => expect.poll(() => clock.sleeping).toBe(1);
  const counts: number[] = [];
  const lookedAfter = async (span: number) => {
    await asleep();
    await clock.advance(ms(span));
    if (clock.sleeping === 0) await asleep();
    counts.push(looks());
  };
  // Two looks failed: 9 s after none, 18 s after one, 36 s after two (random is 0).
  await lookedAfter(17_999);
  await lookedAfter(1);
  await lookedAfter(35_999);
  await lookedAfter(1);
  expect(counts).toEqual([1, 2, 2, 3]);

  const repo = await TestRepository.init(join(bench.folder, "missing"));
  await repo.commit("one");
  await bench.look();
  expect(await bench.history()).toEqual({ main: ["one"] });
  await repo.commit("two");
  await expect.poll(() => clock.sleeping).toBe(1);
  const before = looks();
  await clock.advance(ms(9000));
  await expect.poll(looks).toBe(before + 1);
  expect(await bench.history()).toEqual({ main: ["two", "one"] });
});

test.runIf(process.getuid?.() === 0)("as root, a checkout that belongs to somebody else is read", async () => {
  await using bench = await Bench.make();
  const repo = await TestRepository.init(join(bench.folder, "origin"));
  await repo.commit("one");
  for (const path of [repo.path, join(repo.path, ".git")]) await chown(path, 65_534, 65_534);
  await bench.open([{ name: "app", url: "origin" }]);
  expect([await bench.error(), await bench.history()]).toEqual([null, { main: ["one"] }]);
});
