import fc from "fast-check";
import { expect, test } from "vitest";
import { MarkerReader, markOf } from "./test-markers.ts";

const NONCE = "0123456789abcdef0123456789abcdef";
const mark = markOf(NONCE);

function read(text: string, cut = Number.POSITIVE_INFINITY) {
  const bytes = Buffer.from(text);
  let time = 0;
  const reader = new MarkerReader(NONCE, () => ++time);
  for (let at = 0; at < bytes.length; at += cut) reader.push(bytes.subarray(at, at + cut));
  const outputs = [...reader.reports].map(
    ([name, { outcome, from, to }]) => [name, outcome, bytes.toString("utf8", from, to)] as const,
  );
  return { outputs, unended: [...reader.unended.keys()] };
}

test("a test's output stands between the line that begins it and the one that ends it", () => {
  const text = `noise\n${mark} begin a b\nout\n${mark} pass a b\n${mark} begin ü\n${mark} fail ü\r\n${mark} skip c\n${mark} begin d\nhalf`;
  expect(read(text)).toEqual({
    outputs: [
      ["a b", "success", "out\n"],
      ["ü", "failure", ""],
      ["c", "skipped", ""],
    ],
    unended: ["d"],
  });
});

test.each([
  ["another mark", `${markOf("f".repeat(32))} fail a\n`],
  ["no nonce", "##barnraiser: fail a\n"],
  ["a part of the nonce", `${mark.slice(0, -1)} fail a\n`],
  ["the nonce and more", `${mark}0 fail a\n`],
  ["an unknown word", `${mark} lost a\n`],
  ["no name", `${mark} fail\n`],
  ["no end of line", `${mark} fail a`],
  ["a line longer than any marker", `${mark} fail a${"x".repeat(40_000)}\n`],
])("%s is output", (_what, line) => {
  expect(read(`${mark} begin a\n${line}`)).toEqual({
    outputs: [],
    unended: ["a"],
  });
});

test("a marker behind output that does not end its line is one, and of several in a line the last", () => {
  const text = `${mark} begin a\n..${mark} pass a\n${mark} begin b\n${"x".repeat(40_000)}${mark} x ${mark} fail b\n`;
  const outputs = [
    ["a", "success", ".."],
    ["b", "failure", `${"x".repeat(40_000)}${mark} x `],
  ];
  for (const cut of [1, 7, 1000, 1e6]) expect(read(text, cut)).toEqual({ outputs, unended: [] });
});

test("a shell that shows what it runs changes nothing", () => {
  const shown = (line: string) => `+ echo ${line}${line}`;
  expect(read([`${mark} begin a\n`, `${mark} pass a\n`].map(shown).join("")).outputs).toEqual([
    ["a", "success", "+ echo "],
  ]);
});

test("of several ends of one test a failure counts, whichever comes first", () => {
  const ends = (...words: string[]) => read(words.map((word) => `${mark} ${word} a\n`).join("")).outputs[0]?.[1];
  expect([ends("pass", "fail"), ends("fail", "pass"), ends("skip", "pass")]).toEqual(["failure", "failure", "success"]);
});

test("a test that began or ended in output that was printed before has no duration", () => {
  const line = (word: string, name: string) => Buffer.from(`${mark} ${word} ${name}\n`);
  const old = [line("begin", "a"), line("pass", "a"), line("begin", "b")];
  const fresh = [line("pass", "b"), line("begin", "c"), line("pass", "c"), line("begin", "d")];
  let time = 0;
  const reader = new MarkerReader(NONCE, () => (time += 100));
  const bytes = Buffer.concat([...old, ...fresh]);
  reader.behind(Buffer.concat(old).length);
  reader.push(bytes);
  const cut = bytes.length + line("pass", "d").length;
  reader.behind(cut);
  reader.push(Buffer.concat([line("pass", "d"), line("begin", "e"), line("pass", "e")]));
  const durations = [...reader.reports].map(([name, { durationMs }]) => [name, durationMs]);
  expect(Object.fromEntries(durations)).toEqual({ a: null, b: null, c: 100, d: null, e: 100 });
});

test("property: nothing depends on how the output is cut", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      `${mark} begin a\n`,
      `${mark} pass a\n`,
      `${mark} fail b\n`,
      `${mark} begin b\n`,
      mark,
      "\n",
      "é\n",
    ),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), fc.integer({ min: 1, max: 9 }), (pieces, cut) => {
      expect(read(pieces.join(""), cut)).toEqual(read(pieces.join("")));
    }),
  );
});
