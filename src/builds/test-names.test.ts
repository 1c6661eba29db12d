import fc from "fast-check";
import { expect, test } from "vitest";
import { TestNames } from "./test-names.ts";

function listed(...chunks: (string | Buffer)[]) {
  const names = new TestNames("##mark");
  for (const chunk of chunks) names.push(Buffer.from(chunk));
  return names.end();
}

test("a line is a name: spaces around it go, inside it stay; empty lines and doubles are told apart", () => {
  expect(listed("TestA\r\n\n  Test B  c \n\t\n-v\n--all x\nTestA\nné/1\nlast")).toEqual({
    names: ["TestA", "Test B  c", "-v", "--all x", "né/1", "last"],
    doubled: 1,
  });
});

test.each<readonly [string, string | Buffer, string]>([
  ["nothing", "", "it printed no names"],
  ["blank lines", "\n  \n", "it printed no names"],
  ["a NUL", "a\nb\0c\n", "line 2: want no NUL and no line break in the name of a test"],
  ["a CR inside", "a\rb\n", "line 1: want no NUL and no line break in the name of a test"],
  ["bytes that are no text", Buffer.from([0x61, 0x0a, 0xff, 0xfe, 0x0a]), "line 2: want UTF-8"],
  ["a name without end", "x".repeat(70_000), "line 1 is longer than 65536 bytes"],
  ["a long name", `${"x".repeat(5000)}\n`, "line 1: want at most 4000 characters, it has 5000"],
])("a list with %s is refused", (_what, output, why) => {
  expect(listed(output)).toBe(why);
});

test("once a line is marked only marked lines are names, whatever was printed before and after", () => {
  const noise = ["warning: old cache\n", Buffer.from([0xff, 0x0a]), "x".repeat(70_000), "\n", "##markname a\n"];
  const marked = ["##mark name  Test A \r\n", "##mark name b\n", "##mark name b\n"];
  expect(listed(...noise, ...marked, ...noise)).toEqual({ names: ["Test A", "b"], doubled: 1 });
  expect(listed(...marked, "##mark name a\0\n", "c\n")).toBe(
    "line 4: want no NUL and no line break in the name of a test",
  );
});

test("a mark behind output that does not end its line marks a name, however long that output is", () => {
  const names = { names: ["a", "b", "c"], doubled: 0 };
  const output = `##mark name a\nloading... ##mark name b\n${"x".repeat(70_000)}##mark name c\n`;
  for (const cut of [1000, 64 * 1024, 1e6]) {
    const chunks = Array.from({ length: Math.ceil(output.length / cut) }, (_, i) =>
      output.slice(i * cut, (i + 1) * cut),
    );
    expect(listed(...chunks)).toEqual(names);
  }
  expect(listed("##mark name a##mark name b\n")).toEqual({ names: ["a##mark name b"], doubled: 0 });
  expect(listed(`..##mark name ${"a".repeat(66_000)}`, "\n##mark name b\n")).toMatch(/^line 1: want at most 4000/);
});

test("a shell that shows what it runs changes nothing", () => {
  const shown = ["+ sed 's/^/##mark name /'\n", "++ echo '##mark name a'\n"];
  expect(listed(...shown, "##mark name a\n")).toEqual({ names: ["a"], doubled: 0 });
});

test("100,000 names are a list, and 200,001 are not", () => {
  const lines = (count: number) => Array.from({ length: count }, (_, i) => `test ${i}\n`).join("");
  const many = listed(lines(100_000));
  expect(typeof many === "string" ? many : many.names.length).toBe(100_000);
  expect(listed(lines(200_001))).toBe("it printed more than 200000 names");
});

test("property: names do not depend on how the output is cut", () => {
  const name = fc
    .string({ unit: "grapheme", minLength: 1 })
    .map((s) => s.trim())
    .filter((s) => s !== "" && !/[\0\r\n]/.test(s));
  fc.assert(
    fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 20 }), fc.array(fc.nat(300)), (names, cuts) => {
      const whole = Buffer.from(`${names.join("\n")}\n`);
      const at = [0, ...cuts.map((cut) => cut % whole.length).toSorted((a, b) => a - b), whole.length];
      const chunks = at.slice(1).map((end, i) => whole.subarray(at[i], end));
      expect(listed(...chunks)).toEqual({ names, doubled: 0 });
    }),
  );
});
