/**
 * The effective farm: every default filled in, every name checked, every reference known to lead somewhere.
 * Only `checkFarm` makes one; it is never changed, a new configuration is a new value.
 */
import type { Limits, SnapshotSpec, SourcePart, Step, Superseded, TestsSpec, Trust } from "../farm/build.ts";
import type { Ms } from "../farm/ids.ts";
import type { Gomote } from "../farm/lending.ts";
import type { Role } from "../farm/person.ts";
import type { Builds, Policy, Secret } from "./input.ts";

export interface FarmConfig {
  readonly repos: readonly RepoConfig[];
  readonly hosts: readonly HostConfig[];
  readonly builders: readonly BuilderConfig[];
  readonly policy: Policy;
  /** Without a slash at the end; null: messages have no links. */
  readonly publicUrl: string | null;
  readonly notify: NotifyConfig;
  readonly retention: RetentionConfig;
  readonly gomote: GomoteConfig;
  /** null: people log in with tokens only. */
  readonly login: LoginConfig | null;
}

/** Machines that people borrow. */
export interface GomoteConfig {
  /** Instances of one person, with those that they wait for. */
  readonly perPerson: number;
  /** An instance that its owner does not use ends after this. */
  readonly idleMs: Ms;
  /** And any instance after this. */
  readonly longestMs: Ms;
  /** Whoever waits for a machine is told after this that there is none. */
  readonly waitMs: Ms;
  /** What is fetched for people from URLs that are not the farm's. */
  readonly fetch: "nothing" | "public";
  /** And from which ports. */
  readonly fetchPorts: readonly number[];
  /** Of one file on its way between a person and a machine. */
  readonly transferLimitBytes: number;
}

/** With one of these there is always a `publicUrl`. */
export interface LoginConfig {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: Secret;
  /** What the button says. */
  readonly name: string;
  /** Mail addresses, and `*@DOMAIN`: who becomes a user by logging in. */
  readonly allow: readonly string[];
  /** At most one for each role; `claim` null: everybody who logs in has it. */
  readonly roles: readonly { readonly role: Role; readonly claim: string | null; readonly is: readonly string[] }[];
}

export type Recipient =
  | { readonly kind: "mail"; readonly address: string }
  /** `secret`: what its messages are signed with. */
  | { readonly kind: "webhook"; readonly url: string | Secret; readonly secret: Secret | null };

export interface NotifyConfig {
  readonly operators: readonly Recipient[];
  readonly mail: MailConfig | null;
}

export interface MailConfig {
  readonly host: string;
  readonly port: number;
  readonly security: "tls" | "starttls" | "none";
  readonly user: string | null;
  readonly password: Secret | null;
  readonly from: string;
  readonly caFile: string | null;
}

/** How long things are kept after they ended; each `builds` ≥ `logs` ≥ `greenLogs`. */
export interface RetentionConfig {
  readonly greenLogsMs: Ms;
  readonly logsMs: Ms;
  readonly buildsMs: Ms;
  readonly gomotesMs: Ms;
  readonly sessionsMs: Ms;
  readonly auditMs: Ms;
  readonly noticesMs: Ms;
}

export interface RepoConfig {
  readonly name: string;
  /** As written; a folder may be relative to the configuration. Holds no password. */
  readonly url: string;
  /** Names and globs; `HEAD` is the repository's default branch. */
  readonly branches: readonly string[];
  /** Names and globs; tries of these branches go first. */
  readonly releaseBranches: readonly string[];
  readonly pollMs: Ms;
  /** Planned at most, newest first, when commits are found. */
  readonly depth: number;
  /** Recorded at most, newest first; never less than `depth`. */
  readonly history: number;
  readonly webhook: Secret | null;
  readonly token: Secret | null;
  readonly tokenUser: string;
}

export interface OwnerConfig {
  readonly name: string;
  readonly contact: string;
  readonly notify: readonly Recipient[];
}

export interface HostConfig {
  readonly hostType: string;
  /** `goos-goarch[-variant]`; chooses the programs that a machine is given. */
  readonly hostArch: string;
  readonly expect: number;
  /** Missing for longer is worth a message. */
  readonly missingAfterMs: Ms;
  /** How long what runs there goes on, and is waited for, without a connection. */
  readonly reconnectMs: Ms;
  /** `K=V` in order. */
  readonly env: readonly string[];
  readonly owners: readonly OwnerConfig[];
  readonly notes: string;
  readonly pool: "reverse" | "local";
  readonly trust: Trust;
  readonly sharedKey: boolean;
  readonly hermetic: boolean;
  readonly gomote: Gomote;
  /** So many of its machines are instances at once; null: all. */
  readonly gomoteMost: number | null;
  /** What the owner of its machines agrees to. */
  readonly lend: { readonly gomote: boolean };
}

export interface BuilderConfig {
  readonly name: string;
  /** The host type that its builds run on. */
  readonly host: string;
  /** From the name: before the first `-`, and between the first and the second. Pages group by them. */
  readonly goos: string;
  readonly goarch: string;
  /** Globs; null: none were given, the policy's default decides. */
  readonly repos: readonly string[] | null;
  readonly branches: readonly string[] | null;
  readonly builds: Builds | null;
  /** Commands as lists; `argv[0]` is relative to the step's `dir` where it has a separator. */
  readonly steps: readonly Step[];
  /** Exactly one of them is the commit's own tree; undefined: that alone, in the usual place. */
  readonly sources?: readonly SourcePart[] | undefined;
  readonly against?: AgainstConfig | undefined;
  readonly env: readonly string[];
  readonly baseEnv?: readonly string[] | undefined;
  readonly needs?: readonly string[] | undefined;
  readonly flakyNet?: boolean | undefined;
  /** N of Go 1.N: no older release branch is built. */
  readonly minimumGoMinor?: number | undefined;
  readonly knownIssues: readonly (number | string)[];
  readonly notes: string;
  readonly superseded: Superseded;
  readonly tryOnly: boolean;
  readonly tests: TestsConfig | null;
  /** null: the tree is needed by nobody after the build, or must not be kept. */
  readonly snapshot: SnapshotSpec | null;
  readonly skipSnapshot: boolean;
  readonly stopAfterMake: boolean;
  readonly compileOnly: boolean;
  readonly helpers: number;
  readonly tryHelpers: number;
  readonly limits?: Limits;
}

export interface AgainstConfig {
  readonly repo: string;
  readonly branches: readonly string[];
  readonly builtBy?: string;
}

/** `helpers` stand beside it; what depends on the branch is still open. */
export type TestsConfig = Omit<TestsSpec, "helpers" | "tryHelpers"> & {
  readonly argsOn?: { readonly branches: readonly string[]; readonly args: readonly string[] } | undefined;
};
