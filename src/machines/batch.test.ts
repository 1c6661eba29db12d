import { expect, test } from "vitest";
import { Batch } from "./batch.ts";

test("Batch takes what came meanwhile as one, in order, and gives each caller its own result or error", async () => {
  const runs: (readonly number[])[] = [];
  const batch = new Batch<number, string>(3, async (items) => {
    runs.push(items);
    await new Promise((resolve) => setImmediate(resolve));
    if (items.includes(5)) throw new Error("five");
    return items.join();
  });
  const first = [1, 2, 3, 4].map((item) => batch.add(item));
  expect(await Promise.all(first)).toEqual(["1,2,3", "1,2,3", "1,2,3", "4"]);
  const failed = batch.add(5);
  await expect(failed).rejects.toThrow("five");
  const last = batch.add(6);
  await batch.settled();
  expect([await last, runs]).toEqual(["6", [[1, 2, 3], [4], [5], [6]]]);
});
