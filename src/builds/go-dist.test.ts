import fc from "fast-check";
import { expect, test } from "vitest";
import { BANNER, DistOutput, nothingSaid, olderName } from "./go-dist.ts";

test("olderName() gives the name of before Go 1.21, and leaves older names alone", () => {
  const names = [
    ["net/http", "go_test:net/http"], ["cmd/go", "go_test:cmd/go"], ["cmd/internal/testdir:0_10", "test:0_10"], ["cmd/api:check", "api"],
    ["cmd/internal/bootstrap_test:overlaydir", "reboot"], ["runtime/race:race", "race"], ["cmd/go:moved_goroot", "moved_goroot"],
    ["net:nolibgcc", "nolibgcc:net"], ["runtime:racebench", "go_test_bench:runtime"], ["runtime:cpu124", "runtime:cpu124"],
    ["go_test:net", "go_test:net"], ["test:1_5", "test:1_5"], ["api", "api"], ["reboot", "reboot"],
  ] as const; // biome-ignore format: pairs
  expect(names.map(([name]) => [name, olderName(name)])).toEqual(names);
});

/** What a reader sees of these calls, one after the other. */
function read(calls: readonly string[], cut = Number.POSITIVE_INFINITY): string[] {
  const said = nothingSaid();
  return calls.map((text) => {
    const output = new DistOutput(said);
    const bytes = Buffer.from(text);
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += cut) parts.push(output.push(bytes.subarray(at, at + cut)));
    return Buffer.concat([...parts, output.end()]).toString();
  });
}

const machine = (cpu: string) => `\n${BANNER}Test execution environment.\n# GOARCH: amd64\n# CPU: ${cpu}\n`;
const section = (title: string, ...lines: string[]) => `\n${BANNER}${title}\n${lines.map((l) => `${l}\n`).join("")}`;

test("a machine's description and a section's title are said when they change only", () => {
  const calls = [
    machine("fast") + section("Testing packages.", "ok a"),
    machine("fast") + section("Testing packages.", "ok b", "", "ok c"),
    machine("slow") + section("Testing packages.", "ok d") + section("API check", "ok api"),
  ];
  expect(read(calls)).toEqual([
    "\n##### Test execution environment.\n# GOARCH: amd64\n# CPU: fast\n\n##### Testing packages.\nok a\n",
    "ok b\n\nok c\n",
    "\n##### Test execution environment.\n# GOARCH: amd64\n# CPU: slow\n\n##### Testing packages.\nok d\n\n##### API check\nok api\n",
  ]);
});

test("however the output is cut, the same is read, and what is no banner stays byte by byte", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      machine("x"),
      section("One"),
      section("Two"),
      "# no description\n",
      `in a line ${BANNER}x\n`,
      "XXX",
      "\n",
      "\r\n",
      "ok\r\n",
    ),
    fc.string({ maxLength: 20 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.integer({ min: 1, max: 7 }), (pieces, cut) => {
      const text = pieces.join("");
      expect(read([text], cut)).toEqual(read([text]));
      if (!text.includes(BANNER)) expect(read([text])).toEqual([text]);
    }),
    { numRuns: 2000 },
  );
});
