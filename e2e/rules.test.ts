/** Each number that a test cites has its rule in docs/rules.md, and each rule has a test. A planted miss is found. */
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./testing/process.ts";

const TAG = /\[(?:coordinator|gomote) \d[^\]]*\]/g;
const RULE = /(?<=^- )\[(?:coordinator|gomote) \d+\](?= )/gm;

/** The tags of the rules in `text`, in the order in which they stand there. */
function rulesIn(text: string): readonly string[] {
  return text.match(RULE) ?? [];
}

/** Which tags are in one of the two texts only. */
function missesOf(rules: string, tests: string): { readonly withoutTest: string[]; readonly withoutRule: string[] } {
  const ruled = new Set(rulesIn(rules));
  const cited = new Set<string>(tests.match(TAG));
  return { withoutTest: [...ruled.difference(cited)], withoutRule: [...cited.difference(ruled)] };
}

async function rulesText(): Promise<string> {
  return readFile(join(root, "docs/rules.md"), "utf8");
}

async function testsText(): Promise<string> {
  const files = await Array.fromAsync(glob("{src,e2e,bench}/**/*.test.{ts,tsx}", { cwd: root }));
  return (await Promise.all(files.map((file) => readFile(join(root, file), "utf8")))).join("\n");
}

test("each cited number has a rule, and each rule a test", async () => {
  const [rules, tests] = await Promise.all([rulesText(), testsText()]);
  expect(missesOf(rules, tests)).toEqual({ withoutTest: [], withoutRule: [] });
  const planted = (list: string) => `[${list} 900]`; // no tag yet: this file is read as well
  const more = { rule: `- ${planted("coordinator")} Planted.\n`, test: `test("${planted("gomote")} planted"` };
  expect(missesOf(rules + more.rule, tests + more.test)).toEqual({
    withoutTest: [planted("coordinator")],
    withoutRule: [planted("gomote")],
  });
});

test("each rule stands once, in the order of numbers", async () => {
  const rules = rulesIn(await rulesText());
  const { compare } = new Intl.Collator("en", { numeric: true });
  expect(rules).toEqual([...new Set(rules)].toSorted(compare));
});
