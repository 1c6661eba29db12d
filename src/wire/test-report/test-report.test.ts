import fc from "fast-check";
import { expect, test } from "vitest";
import { GoTestJsonReader, LINE_LIMIT } from "./go-test-json.ts";
import { JUnitReader } from "./junit.ts";
import {
  fullName,
  KeptOutput,
  NAME_LIMIT,
  OUTPUT_KEPT,
  type ReportEnd,
  type ReportedTest,
  type ReportReader,
  TESTS_LIMIT,
} from "./test-report.ts";

interface Read {
  readonly tests: readonly string[];
  readonly outputs: readonly string[];
  readonly text: string;
  readonly end: ReportEnd;
}

/** Reads `report` in pieces that are cut at `cuts`. */
function read(format: "go" | "junit", report: string | Uint8Array, cuts: readonly number[] = []): Read {
  const bytes = typeof report === "string" ? Buffer.from(report) : report;
  const tests: ReportedTest[] = [];
  let text = "";
  const onTest = (found: ReportedTest) => void tests.push(found);
  const onOutput = (piece: string) => {
    text += piece;
  };
  const reader: ReportReader = format === "go" ? new GoTestJsonReader({ onTest, onOutput }) : new JUnitReader(onTest);
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  for (const [at, end] of places.slice(1).entries()) reader.push(bytes.subarray(places[at], end));
  const end = reader.end();
  return {
    tests: tests.map((t) => `${fullName(t)} ${t.outcome} ${t.durationMs ?? "-"}`),
    outputs: tests.map(({ output }) => output),
    text,
    end,
  };
}

const events = (...all: readonly (Readonly<Record<string, unknown>> | string)[]) =>
  all.map((each) => `${typeof each === "string" ? each : JSON.stringify(each)}\n`).join("");
const Package = "example.com/app";

const GO = events(
  { Action: "start", Package },
  "go: downloading example.com/dep v1.2.3",
  { Action: "run", Package, Test: "TestA" },
  { Action: "output", Package, Test: "TestA", Output: "=== RUN   TestA\n" },
  { Action: "run", Package, Test: "TestA/sub_é" },
  { Action: "pause", Package, Test: "TestA/sub_é" },
  { Action: "cont", Package, Test: "TestA/sub_é" },
  { Action: "output", Package, Test: "TestA/sub_é", Output: "    a_test.go:7: wrong\n" },
  { Action: "fail", Package, Test: "TestA/sub_é", Elapsed: 0.25 },
  { Action: "output", Package, Test: "TestA", Output: "--- FAIL: TestA (0.26s)\n" },
  { Action: "fail", Package, Test: "TestA", Elapsed: 0.26 },
  { Action: "run", Package, Test: "TestB" },
  { Action: "skip", Package, Test: "TestB", Elapsed: 0 },
  '{"Action": 3} is no event, and neither is this {',
  { Action: "output", Package, Output: "FAIL\n" },
  { Action: "fail", Package, Elapsed: 1.5 },
);

test("GoTestJsonReader gives tests, subtests and the package, each with what it printed, and the text a person would have seen", () => {
  expect(read("go", GO)).toEqual({
    tests: [
      "example.com/app.TestA/sub_é failed 250",
      "example.com/app.TestA failed 260",
      "example.com/app.TestB skipped 0",
      "example.com/app failed 1500",
    ],
    outputs: ["    a_test.go:7: wrong\n", "=== RUN   TestA\n--- FAIL: TestA (0.26s)\n", "", "FAIL\n"],
    text: `go: downloading example.com/dep v1.2.3
=== RUN   TestA
    a_test.go:7: wrong
--- FAIL: TestA (0.26s)
{"Action": 3} is no event, and neither is this {
FAIL
`,
    end: { tests: 4, unended: [], trouble: undefined },
  });
});

test("GoTestJsonReader: a package that does not compile fails with what the compiler said, in words of both toolchains", () => {
  const ImportPath = "example.com/app [example.com/app.test]";
  const now = events(
    { Action: "build-output", ImportPath, Output: "./a.go:3: undefined: x\n" },
    { Action: "build-fail", ImportPath },
    { Action: "start", Package },
    { Action: "output", Package, Output: "FAIL\texample.com/app [build failed]\n" },
    { Action: "fail", Package, Elapsed: 0, FailedBuild: ImportPath },
    { Action: "fail", Package: "example.com/app/cmd", Elapsed: 0, FailedBuild: ImportPath },
  );
  const compiled = "./a.go:3: undefined: x\n";
  const { tests, outputs, end } = read("go", now);
  expect({ tests, outputs, trouble: end.trouble }).toEqual({
    tests: ["example.com/app failed 0", "example.com/app/cmd failed 0"],
    outputs: [`${compiled}FAIL\texample.com/app [build failed]\n`, compiled],
    trouble: undefined,
  });
  const before = read("go", "# example.com/app\n./a.go:3: undefined: x\nFAIL\texample.com/app [build failed]\nFAIL\n");
  expect([before.tests, before.end.trouble]).toEqual([["example.com/app failed -"], undefined]);
});

test("GoTestJsonReader: tests without an end fail with their package; a report that breaks off names what has no result", () => {
  const panic = events(
    { Action: "run", Package, Test: "TestA" },
    { Action: "pass", Package, Test: "TestA", Elapsed: 1 },
    { Action: "output", Package, Test: "TestA", Output: "too late\n" },
    { Action: "run", Package, Test: "TestB" },
    { Action: "output", Package, Test: "TestB", Output: "panic: test timed out after 1s\n" },
  );
  const whole = read("go", panic + events({ Action: "fail", Package, Elapsed: 1 }));
  expect([whole.tests, whole.outputs.at(-1), whole.end.trouble]).toEqual([
    ["example.com/app.TestA passed 1000", "example.com/app.TestB failed -", "example.com/app failed 1000"],
    "too late\n",
    undefined,
  ]);
  const cut = read("go", panic.slice(0, -20));
  expect([cut.tests, cut.end]).toEqual([
    ["example.com/app.TestA passed 1000"],
    {
      tests: 1,
      unended: ["example.com/app.TestB"],
      trouble: 'The report breaks off: package "example.com/app" has no result',
    },
  ]);
  expect(read("go", "make: *** [all] Error 2\n")).toMatchObject({
    tests: [],
    text: "make: *** [all] Error 2\n",
    end: { trouble: "There is no event of `go test -json` in it" },
  });
});

test("GoTestJsonReader: nonsense in an event is not believed", () => {
  const odd = events(
    { Action: "pass", Package, Test: "TestA", Elapsed: "long" },
    { Action: "pass", Package, Test: "TestB", Elapsed: -4 },
    { Action: "pass", Package, Test: `Test${"C".repeat(2 * NAME_LIMIT)}` },
    { Action: "fail", Package, Test: "Zero\0", Output: 7 },
    { Action: "levitate", Package, Test: "TestD" },
    { Action: "pass" },
    "null",
    "[]",
    { Action: "pass", Package },
  );
  const { tests, end } = read("go", odd);
  expect([tests.map((line) => line.slice(0, 50).replace(/C+$/, "C...")), tests[2]?.length, end.trouble]).toEqual([
    [
      "example.com/app.TestA passed -",
      "example.com/app.TestB passed -",
      "example.com/app.TestC...",
      "example.com/app.Zero\ufffd failed -",
      "example.com/app passed -",
    ],
    "example.com/app. passed -".length + NAME_LIMIT,
    undefined,
  ]);
});

test("GoTestJsonReader: a line of 100 MB is plain output; what is around it counts", () => {
  const tests: string[] = [];
  let passed = 0;
  const reader = new GoTestJsonReader({
    onTest: ({ test: name, outcome }) => void tests.push(`${name} ${outcome}`),
    onOutput: (text) => {
      passed += text.length;
    },
  });
  const heap = process.memoryUsage().arrayBuffers;
  reader.push(
    Buffer.from(`${JSON.stringify({ Action: "pass", Package, Test: "TestA" })}\n{"Action":"output","Output":"`),
  );
  const megabyte = Buffer.alloc(1e6, "x");
  for (let i = 0; i < 100; i++) reader.push(megabyte);
  reader.push(Buffer.from(`"}\n${JSON.stringify({ Action: "fail", Package, Test: "TestB" })}\n`));
  expect(process.memoryUsage().arrayBuffers - heap).toBeLessThan(30e6);
  expect([tests, passed > 100e6, reader.end().trouble]).toEqual([
    ["TestA passed", "TestB failed"],
    true,
    `A line of the report is longer than ${LINE_LIMIT} bytes, and was taken for plain output`,
  ]);
});

test("readers give at most TESTS_LIMIT tests, and say so", () => {
  let given = 0;
  const onTest = () => {
    given++;
  };
  const line = Buffer.from(events({ Action: "pass", Package, Test: "T", Elapsed: 0 }).repeat(10_000));
  const go = new GoTestJsonReader({ onTest });
  for (let i = 0; i <= 100; i++) go.push(line);
  expect([given, go.end()]).toEqual([
    TESTS_LIMIT,
    {
      tests: TESTS_LIMIT,
      unended: [],
      trouble: `The report has more than ${TESTS_LIMIT} tests; the others are left out`,
    },
  ]);
}, 30_000);

test("GoTestJsonReader: what 10^6 tests print that never end takes a bounded amount of memory", () => {
  const reader = new GoTestJsonReader({ onTest: () => {} });
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 100; i++) {
    let lines = "";
    for (let each = 0; each < 10_000; each++) {
      const Test = `TestOfSomeLength${i * 10_000 + each}`;
      lines += events({ Action: "run", Package, Test }, { Action: "output", Package, Test, Output: "=== RUN\n" });
    }
    reader.push(Buffer.from(lines));
  }
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(300e6);
  expect(reader.end()).toMatchObject({
    trouble: "Too many tests had begun at the same time; what some of them printed is left out",
  });
}, 60_000);

test("KeptOutput keeps beginning and end, and gives back all that it took", () => {
  const budget = { left: 1e9 };
  const kept = KeptOutput.open(budget, "name");
  for (let i = 0; i < 100_000; i++) kept?.add(`line ${i}\n`);
  const text = kept?.text ?? "";
  const [, missing] = /\n\.\.\. (\d+) characters left out \.\.\.\n/.exec(text) ?? [];
  const total = Array.from({ length: 100_000 }, (_, i) => `line ${i}\n`).join("").length;
  const told = `\n... ${missing} characters left out ...\n`.length;
  expect([
    text.startsWith("line 0\nline 1\n"),
    text.endsWith("line 99999\n"),
    text.length <= OUTPUT_KEPT + told,
  ]).toEqual([true, true, true]);
  expect(text.length - told + Number(missing)).toBe(total);
  kept?.close();
  expect(budget.left).toBe(1e9);
  expect(KeptOutput.open({ left: 10 }, "name")).toBeUndefined();
});

const JUNIT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="outer" tests="5">
    <properties><property name="x" value="&lt;1&gt;"/></properties>
    <testcase classname="com.example.A" name="adds" time="0.125"/>
    <testcase classname="com.example.A" name="fails é" time="1,234.5">
      <failure message="want 1 &amp; got 2" type="AssertionError"><![CDATA[at A.java:7 <init>]]></failure>
      <system-out>printed&#10;</system-out>
    </testcase>
    <testsuite name="inner">
      <testcase name="without class"><error>boom</error></testcase>
      <testcase name="left out"><skipped message="not today"/></testcase>
      <testcase name="not run" status="notrun" time="NaN"/>
    </testsuite>
    <error message="tear-down failed"/>
    <system-out>of the suite</system-out>
  </testsuite>
</testsuites>
`;

test("JUnitReader gives each case with its class or the suite around it, and why it failed", () => {
  expect(read("junit", JUNIT)).toEqual({
    tests: [
      "com.example.A.adds passed 125",
      "com.example.A.fails é failed 1234500",
      "inner.without class failed -",
      "inner.left out skipped -",
      "inner.not run skipped -",
      "outer failed -",
    ],
    outputs: ["", "want 1 & got 2\nat A.java:7 <init>printed\n", "boom", "not today\n", "", "tear-down failed"],
    text: "",
    end: { tests: 6, unended: [], trouble: undefined },
  });
});

test("JUnitReader reads other encodings, by mark or declaration", () => {
  const plain = '<testsuite name="s"><testcase name="é"/></testsuite>';
  const utf16 = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(plain, "utf16le")]);
  const latin1 = Buffer.from(`<?xml version="1.0" encoding="ISO-8859-1"?>${plain}`, "latin1");
  const unknown = `<?xml version="1.0" encoding="klingon"?>${plain}`;
  expect([utf16, latin1, Buffer.from(`\ufeff${plain}`)].map((bytes) => read("junit", bytes).tests)).toEqual(
    Array(3).fill(["s.é passed -"]),
  );
  expect(read("junit", unknown).end.trouble).toBe('Cannot read the report: its encoding "klingon" is not known');
});

const LAUGHS = `<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol">${Array.from({ length: 9 }, (_, i) => `<!ENTITY lol${i + 1} "${`&lol${i || ""};`.repeat(10)}">`).join("")}]>
<testsuites><testcase name="&lol9;"/></testsuites>`;

test.each([
  ["a DOCTYPE with entities", LAUGHS, /holds a DOCTYPE/],
  ["a file asked for", `<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><testsuite name="&f;"/>`, /a DOCTYPE/],
  ["a DOCTYPE elsewhere", `<!DOCTYPE testsuite SYSTEM "http://example.com/x.dtd"><testsuite/>`, /a DOCTYPE/],
  ["an entity declared in the text", `<testsuite><!ENTITY x SYSTEM y></testsuite>`, /line 1: it holds a declaration/],
  ["an entity that XML does not have", `<testsuite><testcase name="&xxe;"/></testsuite>`, /Invalid character entity/],
  ["a wrong end", "<testsuite><testcase></testsuite>", /line 1: Unexpected close tag/],
  ["another root", "<html><body/></html>", /the root is <html>: want <testsuites> or <testsuite>/],
  ["nothing", "", /line 1: it is empty/],
  ["no XML", "ok  \texample.com/app\t0.1s\n", /line 1: Non-whitespace before first tag/],
  ["deep nesting", "<testsuite>".repeat(100_000), /nested more than 100 deep/],
  ["a huge name", `<testsuite ${"x".repeat(3_000_000)}="1"/>`, /Max buffer length exceeded: attribName/],
  [
    "many attributes",
    `<testsuite ${Array.from({ length: 100_000 }, (_, i) => `a${i}="1"`).join(" ")}/>`,
    /200 attributes/,
  ],
  ["zeros", Buffer.alloc(1000), /line 1: /],
])("JUnitReader stops at %s", (_, report, trouble) => {
  expect(read("junit", report).end.trouble).toMatch(trouble);
  expect(read("junit", report).end.trouble).toMatch(/^Cannot read the report/);
});

test("JUnitReader keeps what was readable of a report that is cut off, and names the case that was cut", () => {
  const cut = read("junit", JUNIT.slice(0, JUNIT.indexOf("CDATA") + 10));
  expect(cut).toMatchObject({
    tests: ["com.example.A.adds passed 125"],
    end: {
      tests: 1,
      unended: ["com.example.A.fails é"],
      trouble: expect.stringMatching(/further than line 7: Unclosed/),
    },
  });
});

test("JUnitReader: 200 MB of one case's output are cut to what is kept, and the next case counts", () => {
  const tests: ReportedTest[] = [];
  const reader = new JUnitReader((found) => void tests.push(found));
  reader.push(Buffer.from(`<testsuite name="s"><testcase name="loud"><failure/><system-out>`));
  const text = Buffer.from("0123456789abcdef".repeat(65_536));
  for (let i = 0; i < 50; i++) reader.push(text);
  reader.push(Buffer.from(`</system-out></testcase><testcase name="next"/></testsuite>`));
  expect(reader.end().trouble).toBeUndefined();
  expect(tests.map((t) => [fullName(t), t.outcome, t.output.length < OUTPUT_KEPT + 100])).toEqual([
    ["s.loud", "failed", true],
    ["s.next", "passed", true],
  ]);
}, 60_000);

test("a report means the same however its bytes are cut", () => {
  const cuts = fc.array(fc.nat(), { maxLength: 40 });
  const old = "FAIL\texample.com/old [build failed]\n";
  for (const [format, report] of [
    ["go", GO + old],
    ["junit", JUNIT],
    ["junit", LAUGHS],
  ] as const) {
    const whole = read(format, report);
    fc.assert(
      fc.property(cuts, (places) => {
        expect(read(format, report, places)).toEqual(whole);
      }),
    );
  }
});

test("readers take any bytes, and damage anywhere, without throwing", () => {
  const damaged = (report: string) =>
    fc
      .tuple(fc.nat(report.length), fc.nat(50), fc.uint8Array({ maxLength: 20 }))
      .map(([at, gone, put]) =>
        Buffer.concat([Buffer.from(report).subarray(0, at), put, Buffer.from(report).subarray(at + gone)]),
      );
  const cuts = fc.array(fc.nat(), { maxLength: 10 });
  for (const [format, report] of [
    ["go", GO],
    ["junit", JUNIT],
  ] as const) {
    fc.assert(
      fc.property(fc.oneof(damaged(report), fc.uint8Array({ maxLength: 200 })), cuts, (bytes, places) => {
        expect(read(format, bytes, places)).toEqual(read(format, bytes));
      }),
      { numRuns: 300 },
    );
  }
});
