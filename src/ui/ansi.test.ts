import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { markOf } from "../builds/test-markers.ts";
import { ansiState, plain, spans } from "./ansi.ts";

const one = (line: string): unknown => spans(line, ansiState()).map((s) => [s.css, s.text]);

test("spans() keeps colours and weights, and carries them to the next line", () => {
  const state = ansiState();
  expect(spans("a\u001b[1;31mred", state)).toEqual([
    { css: "", text: "a" },
    { css: "f1 bo", text: "red" },
  ]);
  expect(spans("still\u001b[0m done", state)).toEqual([
    { css: "f1 bo", text: "still" },
    { css: "", text: " done" },
  ]);
});

test("spans() brings 256 and 16 million colours to the nearest of the 16", () => {
  expect(one("\u001b[38;5;196mx")).toEqual([["f9", "x"]]);
  expect(one("\u001b[38;2;0;200;0;48;5;232mx")).toEqual([["f2 b0", "x"]]);
  expect(one("\u001b[97;104mx")).toEqual([["f15 b12", "x"]]);
  expect(one("\u001b[31;7mx")).toEqual([["finv b1", "x"]]);
});

test("spans() takes out every other control sequence, whole or cut short", () => {
  const noise =
    "\u001b[2J\u001b[10;20H\u001b]0;title\u0007\u001b]8;;https://e.vil\u001b\\link\u001bPq#0\u001b\\\u001b(B\u001bc\u001b[?25l";
  expect(one(noise)).toEqual([["", "link"]]);
  expect(one("end\u001b[3")).toEqual([["", "end3"]]);
  expect(one("end\u001b")).toEqual([["", "end"]]);
});

test("spans() makes control characters and turns of direction visible", () => {
  expect(one("a\u0000b\u0007\u202ec\td")).toEqual([["", "a␀b␇⟨U+202E⟩c\td"]]);
});

test("spans() shows what a progress bar wrote last", () => {
  expect(one("10 %\r50 %\r100 %\r")).toEqual([["", "100 %"]]);
  expect(plain("x\r\u001b[32mok\u001b[m\r")).toBe("ok");
});

test("spans() shows a marker of tests as its dim words, whatever the colour before it, and nothing else so", () => {
  const mark = markOf(randomBytes(16).toString("hex"));
  const state = ansiState();
  spans("\u001b[31mred", state);
  expect(spans(`${mark} begin t7\r`, state)).toEqual([{ css: "mk", text: "begin t7" }]);
  expect(spans("still", state)).toEqual([{ css: "f1", text: "still" }]);
  expect(one(`${mark} fail a b\u001b[1m\u0007c`)).toEqual([["mk", "fail a b␇c"]]);
  expect(plain(`${mark} pass t7`)).toBe("pass t7");
  for (const other of [mark, `${mark} `, `${mark} begin`, "##barnraiser:7 begin t7"])
    expect(one(other)).toEqual([["", other]]);
});

test("spans() shows a marker behind output, and of several the last, as the farm reads them", () => {
  const mark = markOf(randomBytes(16).toString("hex"));
  const state = ansiState();
  expect(spans(`.\u001b[32m.${mark} pass a`, state)).toEqual([
    { css: "", text: "." },
    { css: "f2", text: "." },
    { css: "mk", text: "pass a" },
  ]);
  expect(spans("still", state)).toEqual([{ css: "f2", text: "still" }]);
  expect(one(`50 %\r100 %${mark} pass a\r`)).toEqual([["", "100 %"], ["mk", "pass a"]]); // biome-ignore format: one line
  expect(one(`50 %\r${mark} pass a`)).toEqual([["mk", "pass a"]]);
  expect(one(`${mark} x ${mark} fail b`)).toEqual([["", `${mark} x `], ["mk", "fail b"]]); // biome-ignore format: one line
  expect(plain(`\u001b[32m..\u001b[m${mark} pass a`)).toBe("..pass a");
});

test("spans() is linear in the length of hostile lines", () => {
  const started = performance.now();
  one("\u001b[".repeat(100_000));
  one(`\u001b]${"x".repeat(1_000_000)}`);
  one("\u001bP".repeat(100_000));
  one(`##barnraiser:${"0".repeat(32)} `.repeat(100_000));
  expect(performance.now() - started).toBeLessThan(2000);
});
