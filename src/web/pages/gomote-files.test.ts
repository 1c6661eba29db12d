import { expect, test } from "vitest";
import { linesIn } from "../../wire/buildlet-api/ls-line.ts";
import { filesData } from "./gomote-files.ts";

const view = { instance: "alice-linux-0", path: "src", filter: "", page: 1, sendsFiles: true };
const file = (name: string, size = 0) => `-rw-r--r--\t${name}\t${size}\t2026-11-26T04:02:45Z`;
async function* pieces(lines: readonly string[]): AsyncGenerator<readonly string[]> {
  for (let at = 0; at < lines.length; at += 3) yield lines.slice(at, at + 3);
}
const modified = Date.UTC(2026, 10, 26, 4, 2, 45);

test("filesData() reads what a machine lists, names with line feeds and TABs included", async () => {
  const lines = [
    "drwxr-xr-x\td/",
    file("a\tb", 3),
    "-rw-r--r--\tnew",
    "line\t7\t2026-11-26T04:02:45Z",
    "Lrwxrwxrwx\tlink",
  ];
  expect(await filesData(view, pieces(lines))).toEqual({
    ...{ instance: "alice-linux-0", path: "src", filter: "", sendsFiles: true },
    ...{ count: 4, total: 4, page: 1, pages: 1 },
    entries: [
      { name: "d/", mode: "drwxr-xr-x", size: null, modified: null },
      { name: "a\tb", mode: "-rw-r--r--", size: 3, modified },
      { name: "new\nline", mode: "-rw-r--r--", size: 7, modified },
      { name: "link", mode: "Lrwxrwxrwx", size: null, modified: null },
    ],
  });
  expect(await filesData(view, pieces([]))).toMatchObject({ entries: [], total: 0, pages: 1 });
});

test("a folder of 10,000 is shown page by page, and by part of a name; a file is no folder", async () => {
  const many = Array.from({ length: 10_000 }, (_, n) => file(`file-${n}.txt`));
  const last = await filesData({ ...view, page: 99 }, pieces(many));
  const third = await filesData({ ...view, page: 3 }, pieces(many));
  expect([third?.page, third?.entries.length, third?.entries[0]?.name]).toEqual([3, 1000, "file-2000.txt"]);
  expect([last?.page, last?.pages, last?.entries.length, last?.entries.at(-1)?.name]).toEqual([
    10,
    10,
    1000,
    "file-9999.txt",
  ]);
  const found = await filesData({ ...view, filter: "FILE-999", page: 1 }, pieces(many));
  expect([found?.count, found?.total, found?.entries[0]?.name]).toEqual([11, 10_000, "file-999.txt"]);
  expect(await filesData(view, pieces([file("")]))).toBeUndefined();
});

test("of a machine that lists what is no name, line after line without a mode or a line without an end, nothing is kept", async () => {
  let taken = 0;
  async function* endless(line: string): AsyncGenerator<readonly string[]> {
    for (taken = 0; taken < 100_000; taken++) yield [line];
  }
  const broken = { code: "machine-broken", message: expect.stringContaining("more than 4096 characters") };
  await expect(filesData(view, endless("x"))).rejects.toMatchObject(broken);
  expect(taken).toBeLessThan(4096);
  await expect(filesData(view, endless(file("x".repeat(5000))))).rejects.toMatchObject(broken);
  const unended = (async function* () {
    for (taken = 0; taken < 1000; taken++) yield Buffer.alloc(1 << 16, "x");
  })();
  await expect(filesData(view, linesIn(unended))).rejects.toMatchObject({ code: "machine-broken" });
  expect(taken).toBeLessThan(10);
});
