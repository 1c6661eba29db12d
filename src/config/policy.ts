/**
 * Which builds are wanted: the policy's rules first, then the builder's own.
 *
 *   post-submit  what the farm finds on a watched branch; never on a builder that is `tryOnly`
 *   at all       post-submit, or asked for by somebody
 */
import type { BuilderConfig, FarmConfig } from "./effective.ts";
import { matches } from "./globs.ts";
import type { Policy, PolicyQuestion } from "./input.ts";

/** Refuses nothing; builds everything. */
export const openPolicy: Policy = { name: "open", refuses: () => false, byDefault: () => true };

/** N of `release-branch.go1.N`. Any other branch is newer than every release. */
function minorOf(branch: string): number {
  return Number(/^release-branch\.go1\.(\d+)/.exec(branch)?.[1] ?? Infinity);
}

/** Repositories of the Go project that are built only by builders which name them. */
const UNBUILT = ["build", "exp", "mobile", "pkgsite-metrics", "vulndb", "website"];

/**
 * The Go project's rules, for farms whose repositories and branches have the same names as its own.
 *
 *   release-branch.go1.N  nothing for N below 11, nothing of `exp`, and `pkgsite` from 1.23 only
 *   dev.boringcrypto*     only on `linux-amd64` and `windows-386*`
 *   by default            everything but a few repositories
 */
export const goPolicy: Policy = {
  name: "go",
  refuses({ builder, repo, branch }: PolicyQuestion): boolean {
    const minor = minorOf(branch);
    if (minor < 11) return true;
    if (minor < Infinity && repo === "exp") return true;
    if (minor < 23 && repo === "pkgsite") return true;
    if (branch.startsWith("dev.boringcrypto")) return builder !== "linux-amd64" && !builder.startsWith("windows-386");
    return false;
  },
  byDefault: ({ repo }: PolicyQuestion): boolean => !UNBUILT.includes(repo),
};

export function buildsAtAll(
  config: Pick<FarmConfig, "policy">,
  builder: BuilderConfig,
  repo: string,
  branch: string,
): boolean {
  const question: PolicyQuestion = { builder: builder.name, repo, branch };
  if (config.policy.refuses(question)) return false;
  const { repos, branches, builds, minimumGoMinor = 0 } = builder;
  if (minorOf(branch) < minimumGoMinor) return false;
  if (repos === null && branches === null && builds === null) return config.policy.byDefault(question);
  return (
    (repos === null || matches(repos, repo)) &&
    (branches === null || matches(branches, branch)) &&
    (builds === null || builds(repo, branch))
  );
}

/**
 * Whether the builder builds `branch` of `repo` as pairs with `other`, a branch of the repository that it tests
 * against. buildsAtAll() must agree, too.
 */
export function buildsWith(
  config: Pick<FarmConfig, "policy">,
  builder: BuilderConfig,
  repo: string,
  branch: string,
  other: string,
): boolean {
  if (minorOf(other) < (builder.minimumGoMinor ?? 0)) return false;
  // What the policy refuses on a release branch of Go, it also refuses in a pair with one, whatever the branch of
  // `repo`.
  return [branch, other].every((each) => !config.policy.refuses({ builder: builder.name, repo, branch: each }));
}

export function buildsPostSubmit(
  config: Pick<FarmConfig, "policy">,
  builder: BuilderConfig,
  repo: string,
  branch: string,
): boolean {
  return !builder.tryOnly && buildsAtAll(config, builder, repo, branch);
}

/** Repositories that are tested with `repo`, in the order of the configuration. */
export function testedWith(config: Pick<FarmConfig, "builders" | "repos">, repo: string): string[] {
  const builders = config.builders.filter(({ against }) => against?.repo === repo);
  const names = config.repos.map(({ name }) => name);
  return names.filter((name) => builders.some(({ repos }) => repos === null || matches(repos, name)));
}

/** Repositories that `repo` is tested with. */
export function testsWith(config: Pick<FarmConfig, "builders" | "repos">, repo: string): string[] {
  const builders = config.builders.filter(({ repos }) => repos === null || matches(repos, repo));
  return [...new Set(builders.flatMap(({ against }) => against?.repo ?? []))];
}
