import { expect, test } from "vitest";
import { nodePatternOf, nodeTestFiles, sharesName } from "./files.ts";

test("nodeTestFiles() knows files as node --test does, those in TypeScript where it runs them", () => {
  const js = ["a.test.js", "lib/b_test.mjs", "test.js", "test-c.cjs", "test/any.js", "lib/test/deep/any.mjs"];
  const ts = ["a.test.ts", "b-test.mts", "test/any.cts", "lib/test/types.d.ts"];
  const none = ["a.js", "attest.js", "tests/a.js", "a.test.jsx", "a.test.json", ".hidden/a.test.js", "test.ts/a.js"];
  expect(nodeTestFiles([...js, ...ts, ...none], false)).toEqual(js);
  expect(nodeTestFiles([...js, ...ts, ...none], true)).toEqual([...js, ...ts]);
});

test("sharesName() finds what a name may mean as a part of a path, counted from any folder that has both", () => {
  const name = "packages/x/src/a.test.ts";
  const alike = [
    "old/packages/x/src/a.test.tsx", // as it stands
    "packages/x/lib/SRC/a.test.ts", // of a project in packages/x
    "packages/x/src/ba.test.ts", // of one in packages/x/src
  ];
  const others = ["packages/y/src/a.test.ts", "src/a.test.ts", "a.test.ts", "packages/x/src/a.test.js"];
  expect([...alike, ...others].filter((file) => sharesName(file, name))).toEqual(alike);
  expect(sharesName("lib/a.test.ts", "a.test.ts")).toBe(true);
});

test("nodePatternOf() leaves names alone where node takes them for paths", () => {
  const name = "(a)/[id]{b}.test.js";
  expect([nodePatternOf(name, "20.19.0"), nodePatternOf(name, "21.0.0")]).toEqual([name, "[(]a)/[[]id]?b?.test.js"]);
});
