/**
 * Which runner a package has: vitest or jest where it depends on one, node's own where its test script is `node --test` and nothing but
 * flags. Anything else is not guessed at: its whole test script is one test.
 */
export interface Package {
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** What a configuration says is a test. */
export type TestsAre = "files" | "workspaces" | "script";

/** The name of the whole test script as a test. */
export const WHOLE = "npm test";

export function runnerOf(pkg: Package, tests: TestsAre): "vitest" | "jest" | "node" | "workspaces" | "script" {
  if (tests !== "files") return tests;
  const depends = { ...pkg.dependencies, ...pkg.devDependencies };
  if (depends.vitest) return "vitest";
  if (depends.jest) return "jest";
  return nodeFlags(pkg) ? "node" : "script";
}

/** The flags of a test script that is `node --test` with nothing but flags. */
export function nodeFlags({ scripts }: Package): readonly string[] | undefined {
  const [program, ...flags] = (scripts?.test ?? "").trim().split(/\s+/);
  const onlyFlags = flags.includes("--test") && flags.every((word) => word.startsWith("--"));
  return program === "node" && onlyFlags ? flags : undefined;
}
