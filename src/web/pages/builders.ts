/** Data of `/builders`, and its `mode=json` with upstream's field names. */
import type { BuilderConfig, FarmConfig, HostConfig } from "../../config/effective.ts";
import { buildsPostSubmit } from "../../config/policy.ts";
import { latestResults } from "../../store/pages-lines.ts";
import { connected, hostTypes } from "../../store/pages-pools.ts";
import type { Sql } from "../../store/sql.ts";
import { TESTS_STEP } from "../../ui/pages/build-data.ts";
import type { BuildersData } from "../../ui/pages/builders.tsx";

export async function buildersData(sql: Sql, config: FarmConfig): Promise<BuildersData> {
  const pairs = config.builders.flatMap((builder) =>
    config.repos.map((repo) => ({ repo: repo.name, builder: builder.name })),
  );
  const [types, sessions, latest] = await Promise.all([hostTypes(sql), connected(sql), latestResults(sql, pairs)]);
  return {
    builders: config.builders.map((builder) => ({
      name: builder.name,
      latest: latest
        .filter((one) => one.builder === builder.name)
        .map(({ repo, build, outcome }) => ({
          repo,
          build,
          status: outcome === "failure" && builder.knownIssues.length > 0 ? "known_issue" : outcome,
        })),
      hostType: builder.host,
      owners: (config.hosts.find((host) => host.hostType === builder.host)?.owners ?? []).map((owner) => owner.name),
      repos: reposOf(config, builder),
      steps: [...builder.steps.map((step) => step.name), ...(builder.tests === null ? [] : [TESTS_STEP])],
      knownIssues: builder.knownIssues.map(String),
      notes: builder.notes,
    })),
    hosts: config.hosts.map((host) => {
      const type = types.find((t) => t.name === host.hostType);
      return {
        name: host.hostType,
        arch: host.hostArch,
        pool: host.pool,
        trust: host.trust,
        expect: host.expect,
        connected: sessions.filter((s) => s.hostType === host.hostType).length,
        owners: host.owners.map(({ name, contact }) => ({ name, contact })),
        notes: host.notes,
        builders: config.builders.filter((builder) => builder.host === host.hostType).map((builder) => builder.name),
        drained: type && type.drainedAt !== null ? (type.drainNote ?? "") : null,
      };
    }),
  };
}

/** What a builder builds without being asked, in words. The policy decides, as it does when commits are found. */
function reposOf(config: FarmConfig, builder: BuilderConfig): string {
  const builds = config.repos.flatMap((repo) => {
    const built = repo.branches.filter((branch) => buildsPostSubmit(config, builder, repo.name, sample(branch)));
    if (built.length === 0) return [];
    return [{ repo: repo.name, where: built.length === repo.branches.length ? "all branches" : built.join(", ") }];
  });
  if (builds.length === 0) return "only when asked";
  const [first] = builds;
  const same = builds.length === config.repos.length && builds.every((one) => one.where === first?.where);
  return same ? (first?.where ?? "") : builds.map((one) => `${one.repo}: ${one.where}`).join("; ");
}

/** An example of a branch that a glob matches, to ask the policy about; for `HEAD` it is `main`. */
function sample(branch: string): string {
  return branch === "HEAD" ? "main" : branch.replaceAll("*", "1");
}

/**
 * The fields that upstream's `/builders?mode=json` has of each builder: the exported ones, capitalised. Policies and
 * environments are not among them.
 */
export function buildersJson(config: FarmConfig): unknown {
  return {
    Builders: Object.fromEntries(config.builders.map((builder) => [builder.name, exportedBuilder(builder)])),
    Hosts: Object.fromEntries(config.hosts.map((host) => [host.hostType, exportedHost(host)])),
  };
}

function exportedBuilder(builder: BuilderConfig): unknown {
  return {
    Name: builder.name,
    HostType: builder.host,
    KnownIssues: builder.knownIssues.length === 0 ? null : builder.knownIssues,
    Notes: builder.notes,
    SkipSnapshot: builder.skipSnapshot,
    StopAfterMake: builder.stopAfterMake,
    CompileOnly: builder.compileOnly,
  };
}

function exportedHost(host: HostConfig): unknown {
  return {
    HostType: host.hostType,
    HostArch: host.hostArch,
    IsReverse: host.pool === "reverse",
    ExpectNum: host.expect,
    HermeticReverse: host.hermetic,
    GoogleReverse: host.trust === "team",
    Owners:
      host.owners.length === 0 ? null : host.owners.map((owner) => ({ Name: owner.name, Contact: owner.contact })),
    Notes: host.notes,
  };
}
