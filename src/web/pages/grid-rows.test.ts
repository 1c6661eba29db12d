/** What a cell and the row `now` say when a commit was built more than once. */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { type Column, GridRows } from "./grid-rows.ts";

const columns: Column[] = [{ name: "linux", known: false, skipped: false }];

function rowOf(rows: GridRows, hash: string, codes: string, ids: number[]) {
  const commit = {
    id: 1,
    hash,
    author: "A",
    committedAt: 0,
    message: "m",
    builders: ids.map(() => "linux").join("\n"),
    codes,
    ids: `{${ids}}`,
    running: "",
    otherRepo: null,
    otherBranch: null,
    otherHash: null,
  };
  return rows.row("app", columns, "linux", commit, [], () => null, 0);
}

test("a canceled rebuild hides neither the result in its cell nor in the row `now`", () => {
  const rows = new GridRows();
  const newest = rowOf(rows, "b".repeat(40), "co", [9, 5]);
  const older = rowOf(rows, "a".repeat(40), "x", [4]);
  expect(newest.cells).toEqual([{ status: "success", build: 5 }]);
  expect(rows.now([newest, older], columns, () => "").html).toContain('href=/b/5 aria-label="success for 1 commit"');
  expect(rowOf(rows, "c".repeat(40), "c", [7]).cells).toEqual([{ status: "canceled", build: 7 }]);
});

test("while a rebuild runs, `now` says what the commit's last result was", () => {
  const rows = new GridRows();
  const newest = rowOf(rows, "b".repeat(40), "rx", [9, 5]);
  expect(newest.cells).toEqual([{ status: "running", build: 9 }]);
  expect(rows.now([newest], columns, () => "").html).toContain('href=/b/5 aria-label="failure for 1 commit"');
});

test("200 commits by 100 builders, each cell a link, is less than 100 KB on the way", () => {
  const names = Array.from({ length: 100 }, (_, i) => `os${i % 9}-arch${i % 13}-variant${i}`);
  const many = names.map((name): Column => ({ name, known: false, skipped: false }));
  const rows = new GridRows();
  const html = Array.from({ length: 200 }, (_, n) => {
    const ids = names.map((_, i) => 1_000_000 + (200 - n) * 100 + ((i * 37) % 100)); // planned in another order than shown
    const codes = names.map((_, i) => ((n * 31 + i * 17) % 97 < 4 ? "x" : "o")).join("");
    const hash = createHash("sha1").update(String(n)).digest("hex");
    const commit = {
      id: n,
      hash,
      author: `Author ${n % 20}`,
      committedAt: n * 1e6,
      message: `Change number ${n} of many`,
    };
    return rows.row(
      "app",
      many,
      "k",
      {
        ...commit,
        builders: names.join("\n"),
        codes,
        ids: `{${ids}}`,
        running: "",
        otherRepo: null,
        otherBranch: null,
        otherHash: null,
      },
      [],
      () => null,
      0,
    ).html;
  });
  expect(gzipSync(html.join("")).length).toBeLessThan(100_000);
});
