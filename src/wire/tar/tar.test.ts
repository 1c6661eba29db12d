import fc from "fast-check";
import { packTar, unpackTar } from "modern-tar";
import { expect, test } from "vitest";
import { extraction } from "./extract-rule.ts";
import { TarError, type TarHeader } from "./tar.ts";
import { type TarLimits, TarReader } from "./tar-reader.ts";
import { type TarWriteEntry, tarEnd, tarHeader, tarPadding } from "./tar-writer.ts";

interface Read {
  readonly header: TarHeader;
  readonly content: string;
}

function read(archive: Uint8Array, pieces: readonly number[] = [], limits?: TarLimits): Read[] {
  const entries: Read[] = [];
  let header: TarHeader | undefined;
  let content = "";
  const reader = new TarReader(
    {
      entry: (found) => {
        header = found;
        content = "";
      },
      data: (piece) => {
        content += Buffer.from(piece).toString("latin1");
      },
      end: () => {
        if (header) entries.push({ header, content });
      },
    },
    limits,
  );
  const cuts = [0, ...pieces.map((p) => p % (archive.length + 1)), archive.length].sort((a, b) => a - b);
  for (const [at, end] of cuts.slice(1).entries()) reader.push(archive.subarray(cuts[at], end));
  reader.close();
  return entries;
}

function write(entries: readonly (TarWriteEntry & { content?: string })[]): Buffer {
  const parts = entries.flatMap((entry) => [
    tarHeader(entry),
    Buffer.from(entry.content ?? "", "latin1"),
    tarPadding(entry.size),
  ]);
  return Buffer.concat([...parts, tarEnd()]);
}

const file = (name: string, content = "x"): TarWriteEntry & { content: string } => ({
  type: "file", name, content, size: content.length, mode: 0o644, mtime: 1,
}); // biome-ignore format: a row

/** A header with some bytes set and its checksum made right again. */
function forge(header: Buffer, ...changes: readonly (readonly [offset: number, bytes: string])[]): Buffer {
  for (const [offset, bytes] of changes) header.write(bytes, offset, "latin1");
  header.fill(" ", 148, 156);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
    "latin1",
  );
  return header;
}

test("TarReader gives back what tarHeader() wrote, however the archive is cut", () => {
  const name = fc
    .string({ minLength: 1, maxLength: 400, unit: fc.constantFrom(..."ab/é.ÿ\n ") })
    .filter((n) => !n.endsWith("/"));
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          name,
          content: fc.string({ maxLength: 1500, unit: "binary-ascii" }),
          mode: fc.nat(0o7777),
          mtime: fc.integer({ min: -5, max: 2 ** 34 }),
        }),
        { maxLength: 4 },
      ),
      fc.array(fc.nat(10_000)),
      (files, pieces) => {
        const entries = files.map((f) => ({ ...f, type: "file" as const, size: f.content.length }));
        expect(
          read(write(entries), pieces).map(({ header, content }) => [header.name, header.mode, header.mtime, content]),
        ).toEqual(files.map((f) => [f.name, f.mode, f.mtime, f.content]));
      },
    ),
    { numRuns: 200 },
  );
});

test("archives go both ways between ours and another implementation", async () => {
  const long = `${"d/".repeat(120)}${"n".repeat(120)}`;
  const theirs = await packTar([
    { header: { name: "dir/", type: "directory", size: 0 } },
    { header: { name: "a.txt", size: 5, mode: 0o755, mtime: new Date(1_700_000_000_000) }, body: "hello" },
    { header: { name: long, size: 1 }, body: "y" },
    { header: { name: "link", type: "symlink", linkname: "a.txt", size: 0 } },
  ]);
  expect(read(theirs).map(({ header, content }) => [header.type, header.name, header.linkName, content])).toEqual([
    ["directory", "dir/", "", ""],
    ["file", "a.txt", "", "hello"],
    ["file", long, "", "y"],
    ["symlink", "link", "a.txt", ""],
  ]);
  const ours = await unpackTar(
    write([file("a.txt", "hello"), file(long, "y"), { ...file("l", ""), type: "symlink", linkName: "a.txt" }]),
  );
  expect(
    ours.map(({ header, data }) => [
      header.type,
      header.name,
      header.linkname ?? "",
      data ? Buffer.from(data).toString() : "",
    ]),
  ).toEqual([
    ["file", "a.txt", "", "hello"],
    ["file", long, "", "y"],
    ["symlink", "l", "a.txt", ""],
  ]);
});

test("TarReader reads GNU long names, base-256 sizes and pax that takes a value back", () => {
  const gnu = Buffer.concat([
    forge(tarHeader({ ...file("././@LongLink"), size: 201 }), [156, "L"]),
    Buffer.from(`${"g".repeat(200)}\0`),
    tarPadding(201),
    write([file("short")]),
  ]);
  expect(read(gnu)[0]?.header.name).toBe("g".repeat(200));
  const big = forge(tarHeader({ ...file("big"), size: 0 }), [124, "\x80\0\0\0\0\0\0\0\0\0\0\x02"]);
  expect(read(Buffer.concat([big, Buffer.from("hi"), tarPadding(2), tarEnd()]))[0]?.content).toBe("hi");
});

test("TarReader refuses damage, bombs and what it cannot read, each with a reason", () => {
  const refusal = (archive: Buffer, limits?: TarLimits) => {
    try {
      read(archive, [], limits);
      return "taken";
    } catch (error) {
      return error instanceof TarError ? error.message.replace("Cannot read archive: ", "") : error;
    }
  };
  const damaged = write([file("a")]);
  damaged[0] = 98;
  const pax = (records: string) =>
    Buffer.concat([
      forge(tarHeader({ ...file("p"), size: records.length }), [156, "x"]),
      Buffer.from(records),
      tarPadding(records.length),
      write([file("a")]),
    ]);
  const size = (octal: string) => Buffer.concat([forge(tarHeader(file("a")), [124, octal]), tarEnd()]);
  expect([
    refusal(damaged),
    refusal(Buffer.from("not a tar at all".repeat(100))),
    refusal(write([file("a", "x".repeat(600))]).subarray(0, 1000)),
    refusal(tarHeader(file("a")).subarray(0, 100)),
    refusal(size("00000000x00\0")),
    refusal(size("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
    refusal(size("77777777777\0")),
    refusal(size("77777777777\0"), { bytes: 100, entries: 1 }),
    refusal(write([file("a"), file("b")]), { bytes: 100, entries: 1 }),
    refusal(pax("99 path=x\n")),
    refusal(pax("path=x\n")),
    refusal(pax("12 path=a\0b\n")),
    refusal(pax("18 size=-99999999\n")),
    refusal(pax("22 GNU.sparse.major=1\n")),
    refusal(Buffer.concat([forge(tarHeader({ ...file("p"), size: 2_000_000 }), [156, "x"])])),
    refusal(write([file("n".repeat(5000))])),
    refusal(Buffer.alloc(0)),
    refusal(tarEnd()),
  ]).toEqual([
    "a header has a wrong checksum",
    "a header has a wrong checksum",
    "it ends in the middle of an entry",
    "it ends in the middle of an entry",
    "a header holds a malformed number",
    "a header holds a number out of range",
    "it ends in the middle of an entry",
    'unpacked it is larger than 100 bytes (at "a")',
    "it has more than 1 entries",
    "a pax record is malformed",
    'pax record "path=x" is no number',
    "a name holds a zero byte",
    'size "-99999999" is no number',
    "sparse files are not supported",
    "an extended header of 2000000 bytes is too large",
    "a name has 5000 bytes, want at most 4096",
    "taken",
    "taken",
  ]);
});

test("TarReader throws nothing but TarError at random bytes", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 20 }), (changes) => {
      const archive = write([file("a", "x".repeat(700)), file("b".repeat(300))]);
      for (const [at, byte] of changes) archive[at % archive.length] = byte;
      try {
        read(archive);
      } catch (error) {
        expect(error).toBeInstanceOf(TarError);
      }
    }),
  );
});

test("extraction() keeps links, when asked to, whose target stays inside", () => {
  const link = (name: string, linkName: string, windows = false) => {
    const header: TarHeader = { type: "symlink", flag: "2", name, linkName, mode: 0o777, size: 0, mtime: 0 };
    return [extraction(header, windows).do, extraction(header, windows, true).do];
  };
  for (const [name, target] of [
    ["l", "real"],
    ["l", "."],
    ["a/b/l", "../../x"],
    ["a/l", "b/../../x"],
    ["l", "a\\..\\..\\.."],
  ] as const) {
    expect([name, target, link(name, target)]).toEqual([name, target, ["skip", "link"]]);
  }
  const out = ["..", "../x", "/", "/etc/passwd", "a/../../x", "", "x".repeat(5000)];
  for (const target of out) expect([target, link("l", target)]).toEqual([target, ["skip", "skip-link"]]);
  expect(link("a/l", "../../x")).toEqual(["skip", "skip-link"]);
  for (const target of ["C:\\x", "c:x", "\\x", "/x", "..\\x", "a\\..\\..\\x"]) {
    expect([target, link("l", target, true)]).toEqual([target, ["skip", "skip-link"]]);
  }
});

test("extraction() lets nothing out of the folder and no link in", () => {
  const header = (changes: Partial<TarHeader>): TarHeader => ({
    type: "file",
    flag: "0",
    name: "a",
    linkName: "",
    mode: 0o4755,
    size: 0,
    mtime: 0,
    ...changes,
  });
  expect([
    extraction(header({}), false),
    extraction(header({ name: "a/../b" }), false),
    extraction(header({ type: "link", linkName: "/etc/passwd" }), false),
    extraction(header({ type: "symlink", linkName: "/etc" }), false),
    extraction(header({ type: "directory", name: "d/", mode: 0o700 }), false),
    extraction(header({ type: "global", name: "/anything" }), false),
    extraction(header({ name: "a\\..\\b" }), false),
  ]).toEqual([
    { do: "write", mode: 0o755 },
    { do: "write", mode: 0o755 },
    { do: "write", mode: 0o755 },
    { do: "skip" },
    { do: "mkdir" },
    { do: "skip" },
    { do: "write", mode: 0o755 },
  ]);
  for (const name of ["..", "../evil", "a/../../evil", "/abs", "", "a\0b"]) {
    expect(() => extraction(header({ name }), false), name).toThrow(TarError);
  }
  for (const name of ["C:\\x", "C:x", "..\\evil", "a\\..\\..\\evil", "\\abs", "a/../../b"]) {
    expect(() => extraction(header({ name }), true), name).toThrow(TarError);
  }
  for (const flag of ["3", "4", "6", "S", "V", "?"]) {
    expect(() => extraction(header({ type: "other", flag }), false), flag).toThrow(
      `entries of type "${flag}" are not supported`,
    );
  }
});
