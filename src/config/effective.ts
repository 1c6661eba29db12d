/**
 * The effective farm: every default is filled in, every name is checked, every reference leads somewhere. Only
 * `checkFarm` makes one. It is never changed; a new configuration is a new value.
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
  /** Without a slash at the end. Null: messages have no links. */
  readonly publicUrl: string | null;
  readonly notify: NotifyConfig;
  readonly retention: RetentionConfig;
  readonly gomote: GomoteConfig;
  /** Null: people log in with tokens only. */
  readonly login: LoginConfig | null;
}

/** Machines that people borrow. */
export interface GomoteConfig {
  /** How many instances one person may have or wait for. */
  readonly perPerson: number;
  /** An instance ends when its owner has not used it for this long. */
  readonly idleMs: Ms;
  /** An instance ends after this long in any case. */
  readonly longestMs: Ms;
  /** A person who waits for a machine learns after this long that there is none. */
  readonly waitMs: Ms;
  /** What is fetched for people from URLs outside the farm. */
  readonly fetch: "nothing" | "public";
  /** The ports from which it is fetched. */
  readonly fetchPorts: readonly number[];
  /** The limit of one file on its way between a person and a machine. */
  readonly transferLimitBytes: number;
}

/** Where people log in. A farm that has this also has a `publicUrl`. */
export interface LoginConfig {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: Secret;
  /** The text of the login button. */
  readonly name: string;
  /** Who becomes a user by logging in: mail addresses, and `*@DOMAIN`. */
  readonly allow: readonly string[];
  /** At most one for each role. `claim` null: everybody who logs in has the role. */
  readonly roles: readonly { readonly role: Role; readonly claim: string | null; readonly is: readonly string[] }[];
}

export type Recipient =
  | { readonly kind: "mail"; readonly address: string }
  /** `secret` signs the webhook's messages. */
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

/** How long things are kept after they ended. `builds` ≥ `logs` ≥ `greenLogs`. */
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
  /** As written: a folder may be relative to the configuration. Holds no password. */
  readonly url: string;
  /** Names and globs. `HEAD` is the repository's default branch. */
  readonly branches: readonly string[];
  /** Names and globs of branches whose tries go first. */
  readonly releaseBranches: readonly string[];
  readonly pollMs: Ms;
  /** How many commits are planned at most when some are found, newest first. */
  readonly depth: number;
  /** How many commits are recorded at most, newest first. At least `depth`. */
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
  /** `goos-goarch[-variant]`. Chooses the programs that a machine is given. */
  readonly hostArch: string;
  readonly expect: number;
  /** A machine that is missing for longer is reported. */
  readonly missingAfterMs: Ms;
  /** How long commands go on without a connection, and are waited for. */
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
  /** How many of its machines may be instances at once. Null: all. */
  readonly gomoteMost: number | null;
  /** What the owner of the machines agrees to. */
  readonly lend: { readonly gomote: boolean };
}

export interface BuilderConfig {
  readonly name: string;
  /** The host type that its builds run on. */
  readonly host: string;
  /** From the name: before the first `-`, and between the first and the second. Pages group builders by them. */
  readonly goos: string;
  readonly goarch: string;
  /** Globs. Null: none were given, and the policy's default decides. */
  readonly repos: readonly string[] | null;
  readonly branches: readonly string[] | null;
  readonly builds: Builds | null;
  /** Commands are lists. `argv[0]` is relative to the step's `dir` if it has a separator. */
  readonly steps: readonly Step[];
  /** Exactly one of them is the commit's own tree. Undefined: only that tree, in the usual place. */
  readonly sources?: readonly SourcePart[] | undefined;
  readonly against?: AgainstConfig | undefined;
  readonly env: readonly string[];
  readonly baseEnv?: readonly string[] | undefined;
  readonly needs?: readonly string[] | undefined;
  readonly flakyNet?: boolean | undefined;
  /** N of Go 1.N: older release branches are not built. */
  readonly minimumGoMinor?: number | undefined;
  readonly knownIssues: readonly (number | string)[];
  readonly notes: string;
  readonly superseded: Superseded;
  readonly tryOnly: boolean;
  readonly tests: TestsConfig | null;
  /** Null: nobody needs the tree after the build, or it must not be kept. */
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

/** A TestsSpec without `helpers`, which the builder has itself, and with arguments that still depend on the branch. */
export type TestsConfig = Omit<TestsSpec, "helpers" | "tryHelpers"> & {
  readonly argsOn?: { readonly branches: readonly string[]; readonly args: readonly string[] } | undefined;
};
