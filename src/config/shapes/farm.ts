/**
 * The shape of a farm: which fields there are, what each may hold, and its value when left out. check.ts has the rules
 * between fields.
 *
 * Every rule is a sentence for the person who broke it. Objects are strict: an unknown field is a mistake, since most
 * are misspelt ones that would otherwise silently do nothing.
 */
import * as z from "zod";
import { ms } from "../../farm/ids.ts";
import { RECONNECT_WITHIN } from "../../farm/lease.ts";
import type { FarmConfig, GomoteConfig, HostConfig, RepoConfig } from "../effective.ts";
import type { Policy } from "../input.ts";
import { hostArchFault, hostArchOf } from "../names.ts";
import { openPolicy } from "../policy.ts";
import { urlFault, webUrlFault } from "../urls.ts";
import { type BuilderShape, builder } from "./builder.ts";
import { faultsOf, fields, type ShapeFault } from "./faults.ts";
import { login } from "./login.ts";
import { notify, owner, retention } from "./notify.ts";
import {
  checked,
  env,
  globs,
  listOf,
  name,
  oneLine,
  secret,
  size,
  span,
  text,
  UNITS,
  WEEK,
  whole,
  yesNo,
} from "./values.ts";

/** A farm whose fields are each valid, before they are checked against each other. */
export interface FarmShape extends Omit<FarmConfig, "builders"> {
  readonly builders: readonly BuilderShape[];
}

const repo: z.ZodType<RepoConfig> = fields(
  {
    name,
    url: checked("want a folder or a URL", urlFault),
    branches: globs.default(["HEAD"]),
    releaseBranches: globs.default(["release-branch*", "release/*"]),
    poll: span("1s", "24h").default(ms(15_000)),
    depth: whole(1, 10_000).default(10),
    history: whole(1, 10_000).optional(),
    webhook: secret.nullable().default(null),
    token: secret.nullable().default(null),
    tokenUser: oneLine.default("x-access-token"),
  },
  "want { name, url }",
).transform(({ poll, history, ...rest }) => ({
  ...rest,
  pollMs: poll,
  history: history ?? Math.max(100, rest.depth),
}));

const host: z.ZodType<HostConfig> = fields(
  {
    hostType: name,
    hostArch: checked("want GOOS-GOARCH[-variant]", hostArchFault).optional(),
    expect: whole(0, 100_000).default(0),
    env,
    owners: listOf(owner, "want a list of { name, contact }").default([]),
    missingAfter: span("1m", "168h").default(ms(900_000)),
    reconnectWithin: span("10s", "24h").default(RECONNECT_WITHIN),
    notes: text("many lines").default(""),
    pool: z.enum(["reverse", "local"], 'want "reverse" or "local"').default("reverse"),
    trust: z.enum(["team", "community"], 'want "team" or "community"').optional(),
    sharedKey: yesNo.default(true),
    hermetic: yesNo.default(false),
    gomote: z.enum(["nobody", "team", "members"], 'want "nobody", "team" or "members"').optional(),
    gomoteMost: whole(1, 100_000).nullable().default(null),
    lend: fields({ gomote: yesNo }, "want { gomote: true } or { gomote: false }").optional(),
  },
  "want { hostType }",
).transform(({ missingAfter, reconnectWithin, ...given }, context) => {
  const hostArch = given.hostArch ?? hostArchOf(given.hostType);
  if (hostArch === undefined) {
    const message = "want host-GOOS-GOARCH[-anything], or a hostArch beside it";
    context.addIssue({ code: "custom", message, path: ["hostType"] });
    return z.NEVER;
  }
  // The owner of a lent machine has not agreed to run code that nobody has looked at.
  const trust = given.trust ?? (given.pool === "local" ? "team" : "community");
  const gomote = given.gomote ?? (trust === "team" ? "members" : "nobody");
  const lend = given.lend ?? { gomote: trust === "team" };
  return { ...given, hostArch, trust, gomote, lend, missingAfterMs: missingAfter, reconnectMs: reconnectWithin };
});

const gomote: z.ZodType<GomoteConfig> = fields(
  {
    perPerson: whole(1, 10_000).default(20),
    idle: span("1m", "7d").default(ms(30 * 60_000)),
    longest: span("5m", "30d").default(WEEK),
    wait: span("1m", "7d").default(ms(4 * 3_600_000)),
    fetch: z.enum(["nothing", "public"], 'want "nothing" or "public"').default("nothing"),
    fetchPorts: listOf(whole(1, 65_535), "want a list of ports").default([80, 443]),
    transferLimit: size("1KiB", "1TiB").default(10 * UNITS.GiB),
  },
  "want { perPerson, idle, longest, wait, fetch, fetchPorts, transferLimit }",
).transform(({ perPerson, idle, longest, wait, fetch, fetchPorts, transferLimit }) => ({
  perPerson,
  idleMs: idle,
  longestMs: longest,
  waitMs: wait,
  fetch,
  fetchPorts,
  transferLimitBytes: transferLimit,
}));

const policy = z.custom<Policy>(
  (value) =>
    typeof value === "object" &&
    value !== null &&
    "name" in value &&
    typeof value.name === "string" &&
    "refuses" in value &&
    typeof value.refuses === "function" &&
    "byDefault" in value &&
    typeof value.byDefault === "function",
  "want { name, refuses, byDefault }, such as goPolicy",
);

const farm: z.ZodType<FarmShape> = fields(
  {
    repos: z.array(repo, "want a list of repositories"),
    hosts: z.array(host, "want a list of host types"),
    builders: z.array(builder, "want a list of builders"),
    policy: policy.default(openPolicy),
    publicUrl: checked("want an address", webUrlFault)
      .transform((url) => url.replace(/\/+$/, ""))
      .nullable()
      .default(null),
    notify: notify.prefault({}),
    retention: retention.prefault({}),
    gomote: gomote.prefault({}),
    login: login.nullable().default(null),
  },
  "want { repos, hosts, builders }",
);

export function readShape(input: unknown): { readonly farm: FarmShape } | { readonly faults: readonly ShapeFault[] } {
  const read = farm.safeParse(input);
  return read.success ? { farm: read.data } : { faults: faultsOf(read.error) };
}
