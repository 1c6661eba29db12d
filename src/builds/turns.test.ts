import { expect, test } from "vitest";
import { buildId } from "../farm/ids.ts";
import { AT_ONCE, Turns } from "./turns.ts";

test("of the turns at one build AT_ONCE are taken at a time, in order; other builds wait for none of them", async () => {
  const turns = new Turns();
  const begun: string[] = [];
  const gate = Promise.withResolvers<void>();
  const take = (build: number, name: string) =>
    turns.take(buildId(build), async () => {
      begun.push(name);
      await gate.promise;
      return name;
    });
  const names = Array.from({ length: 14 }, (_, i) => `turn ${i}`);
  const taken = names.map((name) => take(1, name));
  const other = take(2, "other");
  await Promise.resolve();
  expect(begun).toEqual([...names.slice(0, AT_ONCE), "other"]);
  gate.resolve();
  expect(await Promise.all([...taken, other])).toEqual([...names, "other"]);
  expect(begun.filter((name) => name !== "other")).toEqual(names);
});

test("a turn that fails makes room for the next", async () => {
  const turns = new Turns();
  const failed = Array.from({ length: AT_ONCE }, () => turns.take(buildId(1), () => Promise.reject(new Error("no"))));
  const next = turns.take(buildId(1), async () => "next");
  for (const each of failed) await expect(each).rejects.toThrow("no");
  expect(await next).toBe("next");
});
