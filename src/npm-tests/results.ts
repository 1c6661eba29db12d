/** What became of tests: read from the report that vitest and jest write alike, and written as JUnit XML. */
export interface TestResult {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly ms: number;
  /** Why it failed. */
  readonly why: string;
}

export interface RunnerReport {
  /** One for each file; of a runner that has several projects one for each project and file. */
  readonly testResults: readonly FileReport[];
}

export interface FileReport {
  readonly name: string;
  /** vitest: passed or failed. jest: focused, too, where all that ran has passed and something was skipped; and skipped or pending, where nothing ran. */
  readonly status: string;
  readonly startTime: number;
  readonly endTime: number;
  readonly message?: string;
  readonly assertionResults?: readonly {
    readonly status: string;
    readonly failureMessages?: readonly string[] | null;
  }[];
}

/** One result for each file. `nameOf` gives the name of a test by its file. */
export function fromReport({ testResults }: RunnerReport, nameOf: (file: string) => string): readonly TestResult[] {
  const all = new Map<string, TestResult>();
  for (const report of testResults) {
    const name = nameOf(report.name);
    const one: TestResult = { name, outcome: outcomeOf(report), ms: timeOf(report), why: reasonOf(report) };
    const before = all.get(name);
    all.set(name, before ? both(before, one) : one);
  }
  return [...all.values()];
}

function outcomeOf({ status, assertionResults = [] }: FileReport): TestResult["outcome"] {
  if (status === "failed") return "failed";
  const nothingRan = assertionResults.length > 0 && assertionResults.every((each) => each.status !== "passed");
  return nothingRan || status === "skipped" || status === "pending" ? "skipped" : "passed";
}

function timeOf({ startTime, endTime }: FileReport): number {
  return Math.max(0, Math.round(endTime - startTime)) || 0;
}

function reasonOf({ message, assertionResults = [] }: FileReport): string {
  return [message, ...assertionResults.flatMap(({ failureMessages }) => failureMessages ?? [])]
    .filter(Boolean)
    .join("\n");
}

function both(a: TestResult, b: TestResult): TestResult {
  const outcomes = [a.outcome, b.outcome];
  const outcome = outcomes.includes("failed") ? "failed" : outcomes.includes("passed") ? "passed" : "skipped";
  return { name: a.name, outcome, ms: a.ms + b.ms, why: [a.why, b.why].filter(Boolean).join("\n") };
}

export function junit(results: readonly TestResult[]): string {
  const cases = results.map(({ name, outcome, ms, why }) => {
    const inside = { passed: "", skipped: "<skipped/>", failed: `<failure>${xml(why)}</failure>` }[outcome];
    return `<testcase name="${xml(name)}" time="${ms / 1000}">${inside}</testcase>\n`;
  });
  return `<testsuite>\n${cases.join("")}</testsuite>\n`;
}

function xml(text: string): string {
  return text
    .replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, "\ufffd")
    .replace(/[&<>"]/g, (special) => `&#${special.charCodeAt(0)};`);
}
