/** Data of `/builders`, and its `mode=json` with upstream's field names. */
import type { BuilderConfig, FarmConfig, HostConfig } from "../../config/effective.ts";
import { connected, hostTypes } from "../../store/pages-pools.ts";
import type { Sql } from "../../store/sql.ts";
import type { BuildersData } from "../../ui/pages/builders.tsx";

export async function buildersData(sql: Sql, config: FarmConfig): Promise<BuildersData> {
  const [types, sessions] = await Promise.all([hostTypes(sql), connected(sql)]);
  return {
    builders: config.builders.map((builder) => ({
      name: builder.name,
      hostType: builder.host,
      owners: (config.hosts.find((host) => host.hostType === builder.host)?.owners ?? [])
        .map((owner) => owner.name)
        .join(", "),
      repos: reposOf(builder),
      steps: builder.steps.map((step) => step.name),
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
        owners: host.owners,
        notes: host.notes,
        builders: config.builders.filter((builder) => builder.host === host.hostType).map((builder) => builder.name),
        drained: type && type.drainedAt !== null ? (type.drainNote ?? "") : null,
      };
    }),
  };
}

function reposOf(builder: BuilderConfig): string {
  const { repos, branches, builds } = builder;
  const parts = [
    repos === null ? "" : repos.join(", "),
    branches === null ? "" : `on ${branches.join(", ")}`,
    builds === null ? "" : "by its own rule",
  ];
  return parts.filter(Boolean).join(" ") || "by the farm's policy";
}

/** What upstream's `/builders?mode=json` has of each: the exported fields, capitalised. Policies and environment are not among them. */
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
    StopAfterMake: false,
    CompileOnly: false,
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
