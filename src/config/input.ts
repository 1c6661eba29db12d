/**
 * What a person writes in `farm.config.ts`. Everything that can have a default has one. `check.ts` fills in the
 * defaults, refuses what cannot work, and returns the effective farm of `effective.ts`, which is all that the rest of
 * the program sees.
 */
import type { Superseded, Trust } from "../farm/build.ts";
import type { Role } from "../farm/person.ts";

/** A span of time: `"90s"`, `"10m"`, `"1h30m"`, `"250ms"`. */
export type Duration = string;

/** Environment variables: `{ KEY: "value" }`, or `["KEY=value"]` where the order or a repeated key matters. */
export type EnvInput = Readonly<Record<string, string>> | readonly string[];

/**
 * Where a secret is kept. The secret itself never stands in the configuration. A relative file is looked up beside the
 * configuration.
 */
export type Secret = { readonly env: string } | { readonly file: string };

export interface FarmInput {
  readonly repos: readonly RepoInput[];
  readonly hosts: readonly HostInput[];
  readonly builders: readonly BuilderInput[];
  /**
   * Rules that apply to all builders; `goPolicy` has those of the Go project. Left out: nothing is refused, everything
   * is built.
   */
  readonly policy?: Policy;
  /**
   * The address at which people reach the pages, such as `https://farm.example.org`. Links in messages begin with it.
   * Left out: messages have no links.
   */
  readonly publicUrl?: string;
  /**
   * Who is told of trouble beside the owners of machines, and how mail is sent. Left out: only webhooks of owners are
   * called.
   */
  readonly notify?: NotifyInput;
  /** How long things are kept. Each field has a default. */
  readonly retention?: RetentionInput;
  /** Machines that people borrow (`gomote`): how many, and for how long. Each field has a default. */
  readonly gomote?: GomoteInput;
  /** Where people log in on the pages. Needs `publicUrl`. Left out: they log in with tokens only. */
  readonly login?: LoginInput;
}

export interface GomoteInput {
  /** How many machines one person may have or wait for at a time. Default 20. */
  readonly perPerson?: number;
  /** A machine is taken back when its borrower has not used it for this long. Default `"30m"`. */
  readonly idle?: Duration;
  /** A machine is taken back after this time even if it is in use. Default `"7d"`. */
  readonly longest?: Duration;
  /** A person who waits for a machine learns after this time that none came free. Default `"4h"`. */
  readonly wait?: Duration;
  /**
   * What the coordinator fetches for a person who wants it on their machine. `"nothing"`: only files that they uploaded
   * to the farm. `"public"`: also what anybody in the world can fetch; every member can then reach the world from the
   * coordinator's network. Default `"nothing"`.
   */
  readonly fetch?: "nothing" | "public";
  /** The ports from which the coordinator fetches. Default `[80, 443]`. */
  readonly fetchPorts?: readonly number[];
  /** The largest file that may be transferred between a person and a machine. Default `"10GiB"`. */
  readonly transferLimit?: string;
}

/**
 * An OpenID Connect provider at which users log in. This farm is registered there with the redirect address
 * `PUBLICURL/login/callback`, and with `PUBLICURL/` as the address after logging out. A person whose mail address the
 * provider has not verified cannot log in.
 */
export interface LoginInput {
  /** The issuer, exactly as in the provider's `/.well-known/openid-configuration`. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: Secret;
  /** The text of the login button. Default: the host of `issuer`. */
  readonly name?: string;
  /**
   * Who becomes a user by logging in: mail addresses, and `*@DOMAIN`. Default `[]`: only users that an operator has
   * added can log in.
   */
  readonly allow?: readonly string[];
  /**
   * Roles that are given, and taken, at each login: to `"everybody"`, or to people for whom a claim of the provider
   * says so, such as `{ claim: "groups", is: "farm-team" }`. An operator gives the roles that are not named here.
   * Default `{ member: "everybody" }`.
   */
  readonly roles?: Partial<
    Record<Role, "everybody" | { readonly claim: string; readonly is: string | readonly string[] }>
  >;
}

/**
 * A person or program to tell: a mail address, with or without `mailto:`; an `https://` address that takes webhooks; or
 * `{ webhook }`. The address in `webhook` may itself be a secret; `secret` signs the messages.
 */
export type RecipientInput = string | { readonly webhook: string | Secret; readonly secret?: Secret };

export interface NotifyInput {
  /** Recipients of all messages. Default: nobody. */
  readonly operators?: RecipientInput | readonly RecipientInput[];
  /** The mail server. Left out: no mail is sent. */
  readonly mail?: MailInput;
}

export interface MailInput {
  readonly host: string;
  /** The port of the server. Default: 465 with `tls`, 587 with `starttls`, 25 with `none`. */
  readonly port?: number;
  /**
   * `tls`: encrypted from the first byte. `starttls`: encrypted after that command, otherwise nothing is sent. `none`:
   * for a relay on this computer. Default `starttls`.
   */
  readonly security?: "tls" | "starttls" | "none";
  readonly user?: string;
  readonly password?: Secret;
  /** The sender's mail address. */
  readonly from: string;
  /**
   * A PEM file with the CA of the mail server, if that is not a public one. A relative path starts at the
   * configuration.
   */
  readonly caFile?: string;
}

/** How long things are kept after they ended. Days may be written as `"30d"`. */
export interface RetentionInput {
  /** Logs of builds that succeeded. Default `"30d"`. */
  readonly greenLogs?: Duration;
  /** Logs of all other builds. Default `"90d"`, at least `greenLogs`. */
  readonly logs?: Duration;
  /**
   * Builds with everything that belongs to them, and commits that are in no branch's `history`. The newest result of
   * each builder on a branch stays, and that of each cell of the grid. Default `"365d"`, at least `logs`.
   */
  readonly builds?: Duration;
  /**
   * What the farm knows of lent machines: who borrowed them, when, and what they ran. Recordings of shells are deleted
   * with `logs` if that is sooner. The audit also has each instance, and the first words of each command. Default
   * `"180d"`.
   */
  readonly gomotes?: Duration;
  /**
   * Connections of machines, changes in what machines report, and tokens of users that have expired or were revoked.
   * Default `"180d"`.
   */
  readonly sessions?: Duration;
  /** The audit: who did what. Default `"730d"`. */
  readonly audit?: Duration;
  /** Messages that were sent or given up. Default `"30d"`. */
  readonly notices?: Duration;
}

export interface RepoInput {
  /** The name of the repository, as in the address `/p/NAME`. Letters, digits, `.`, `_`, `-`. */
  readonly name: string;
  /** A folder (relative to the configuration), `file://`, `http(s)://`, `ssh://` or `user@host:path`. */
  readonly url: string;
  /**
   * Names of branches and globs: `*` is anything but `/`, `**` anything, `?` one character, `!GLOB` takes away again.
   * `HEAD` (the default) is the repository's own default branch; for a checkout, the branch that it is on.
   */
  readonly branches?: string | readonly string[];
  /** Branches whose tries go before other tries: names and globs. Default `["release-branch*", "release/*"]`. */
  readonly releaseBranches?: string | readonly string[];
  /** How often to look for commits. Default `"15s"`. */
  readonly poll?: Duration;
  /** How many of a branch's newest commits are planned at most when several appear at once. Default 10. */
  readonly depth?: number;
  /** How many of a branch's newest commits are kept for the grid. Default 100, at least `depth`. */
  readonly history?: number;
  /**
   * The secret with which a forge signs `POST /hooks/push` for this repository. Left out: no such request is accepted.
   */
  readonly webhook?: Secret;
  /** A password or access token for an `https://` repository that asks for one. */
  readonly token?: Secret;
  /** The user name that goes with `token`. Default `"x-access-token"`. */
  readonly tokenUser?: string;
}

export interface OwnerInput {
  readonly name: string;
  /** Mail address, chat handle or URL of the owner. Shown to people who find the machine missing. */
  readonly contact: string;
  /**
   * Who is told when a machine is missing, set aside or well again. Default: `contact` if it is a mail address. `[]`:
   * nobody.
   */
  readonly notify?: RecipientInput | readonly RecipientInput[];
}

export interface HostInput {
  /** `host-GOOS-GOARCH[-anything]`. Machines register under this name. */
  readonly hostType: string;
  /** `GOOS-GOARCH[-variant]`. Default: parts two and three of the name; 32-bit `arm` gets `-7`. */
  readonly hostArch?: string;
  /** How many machines should be connected. The status page shows what is missing. Default 0. */
  readonly expect?: number;
  /** A machine that is missing for longer is reported to its owners and the operators, once. Default `"15m"`. */
  readonly missingAfter?: Duration;
  /**
   * How long the commands on such a machine go on, and are waited for, after its connection or its coordinator was
   * lost. A buildlet that is started with a shorter `-reconnect` ends earlier. Default `"5m"`.
   */
  readonly reconnectWithin?: Duration;
  /** Variables that go before the environment of every builder on this host type. */
  readonly env?: EnvInput;
  readonly owners?: readonly OwnerInput[];
  readonly notes?: string;
  /** `reverse`: machines connect to the farm. `local`: the computer that the coordinator runs on. Default `reverse`. */
  readonly pool?: "reverse" | "local";
  /** `community` machines only ever run submitted code. Default: `team` for `local`, otherwise `community`. */
  readonly trust?: Trust;
  /** Whether the key shared by the whole host type is accepted, beside keys of single machines. Default true. */
  readonly sharedKey?: boolean;
  /** True: each connection is a freshly made machine. Default false. */
  readonly hermetic?: boolean;
  /**
   * Who may borrow its machines with `gomote`: `members` are all people with a role, `team` those with the role `team`
   * or `operator`. Default: `nobody` for `community` machines, otherwise `members`.
   */
  readonly gomote?: "nobody" | "team" | "members";
  /** How many of its machines may be lent at a time, including those that somebody waits for. Default: all. */
  readonly gomoteMost?: number;
  /**
   * What the owner of the machines agrees to. `gomote`: people run on them what they like. Default: false for
   * `community` machines, otherwise true.
   */
  readonly lend?: { readonly gomote: boolean };
}

export interface StepInput {
  /** The name of the step. Default: the beginning of the command. */
  readonly name?: string;
  /**
   * One string is run by the machine's shell (`sh -ec`, on Windows `cmd /c`). A list is a program and its arguments. A
   * program with a `/` in it, like `./make.bash`, is relative to `dir`; after `$WORKDIR/` it is relative to the
   * machine's work folder.
   */
  readonly command: string | readonly string[];
  /**
   * The folder to run in, relative to the source tree. `"$WORKDIR"` is the machine's work folder. Default: the root of
   * the source tree.
   */
  readonly dir?: string;
  /** `$WORKDIR` in a value is the machine's work folder. */
  readonly env?: EnvInput;
  /** PATH elements. `$PATH` stands for the machine's own PATH, `$WORKDIR` for its work folder. Left out: unchanged. */
  readonly path?: readonly string[];
  /** The step is stopped and fails after this long. Default: the builder's `timeLimit`. */
  readonly timeLimit?: Duration;
  /**
   * True: the output begins with a line about the command that runs, with its arguments and variables. Default false.
   */
  readonly showCommand?: boolean;
  /**
   * True: the step makes the other tree of a builder with `against`. It is left out when that tree came from a
   * snapshot. Default false.
   */
  readonly makesOther?: boolean;
}

/**
 * Something that is written to a machine before the first step. Parts of one `dir` are written in the given order,
 * those of different folders at the same time. `$REPO` in `dir` is the name of the repository.
 */
export type SourceInput = {
  /** A folder below the machine's work folder. */
  readonly dir: string;
  /** What the log calls the writing of this part. */
  readonly name?: string;
} & (
  | {
      /**
       * `own`: the tree of the commit that is built, in which steps run. `other`: that of the other commit, with
       * `against`.
       */
      readonly commit: "own" | "other";
    }
  /** A file with your own text. `$COMMIT` in it is the commit that is built, `$OTHER` the other one. */
  | { readonly file: string; readonly text: string }
  /** A tar.gz that the machine itself fetches. */
  | { readonly url: string }
);

/**
 * The tests of a builder: where their names come from, and what runs a group of them. The machines of a build share the
 * work.
 */
export interface TestsInput {
  /**
   * A command that prints the names of the tests, one a line, and runs once per build after the steps; or the names
   * themselves. Spaces around a name are dropped, empty lines are ignored, and a name that comes twice is one test.
   *
   * `foldersWith`: the tests are the folders of the source tree that have a file of that name, such as `go.mod`.
   * Folders called `testdata` or `vendor`, and those that begin with `.` or `_`, are not searched.
   */
  readonly list: StepInput | string | readonly string[] | { readonly foldersWith: string };
  /**
   * Patterns of the listed tests that are run: `*` is anything but `/`, `**` anything, `!GLOB` takes away. Default: all
   * are run.
   */
  readonly only?: string | readonly string[];
  /** Patterns of tests that are never run in one command with others. Default none. */
  readonly alone?: string | readonly string[];
  /**
   * `go-test`: `run` runs `go test`. A GO_TEST_TIMEOUT_SCALE in the environment lengthens its `-timeout=Nm` and the
   * time limit of a group.
   *
   * `go-dist`: `list` and `run` use `go tool dist test` of Go's own tree. Patterns then mean the names that its tests
   * had before Go 1.21 (`go_test:net/http`, `test:0_10`, `api`). A GO_TEST_TIMEOUT_SCALE in the environment lengthens
   * the time limit of a group.
   */
  readonly dialect?: "go-dist" | "go-test";
  /** Further arguments of `run`, before the names, on some branches. */
  readonly argsOn?: { readonly branches: string | readonly string[]; readonly args: readonly string[] };
  /**
   * Runs one group of tests. A string gets their names as `"$@"` (at its end, unless it mentions them itself), a list
   * has them as further arguments. Its `timeLimit` is that of a group, default `"20m"`.
   */
  readonly run: StepInput | string;
  /**
   * `args`: the names are arguments. `file`: the argument is a file with one name a line. `dir`: a test is a folder of
   * the source tree, and the command runs there without further arguments. Default `args`.
   */
  readonly names?: "args" | "file" | "dir";
  /** How the result of each test of a group is found. Default `"exit"`: by the command's exit status. */
  readonly results?: "exit" | "go-test-json" | "markers" | { readonly junit: string };
  /** About how long a group of tests should take, by what the tests took before. Default `"10s"`. */
  readonly groupTarget?: Duration;
  /** How long a test is assumed to take that has not run before. Default `"3s"`. */
  readonly unknown?: Duration;
  /** True: after a failed test the rest runs too, so that all failures are known at the end. Default true. */
  readonly keepGoing?: boolean;
}

/** How the tree after the steps is packed and kept. Helpers, retries and rebuilds start from it. */
export interface SnapshotInput {
  /** What the tests do not need, as lines of a `.gitignore`. Default nothing. */
  readonly exclude?: string | readonly string[];
  /** Folders of the tree that are removed before it is packed, and so before the tests. Default none. */
  readonly remove?: readonly string[];
  /** The largest packed tree that is kept: `"500MiB"`, `"2GiB"`. Default `"2GiB"`. */
  readonly limit?: string;
  /** How long the packed tree may be reused. Default `"168h"`. */
  readonly keep?: Duration;
}

export interface AgainstInput {
  /** The name of the other repository in `repos`. */
  readonly repo: string;
  /** Names and globs of the branches that it watches. Default all. */
  readonly branches?: string | readonly string[];
  /**
   * A builder of that repository. If it has kept a snapshot of the commit, that is used, and steps with `makesOther`
   * are left out.
   */
  readonly builtBy?: string;
}

/** Whether a builder builds this branch of this repository. */
export type Builds = (repo: string, branch: string) => boolean;

export interface BuilderInput {
  /** `GOOS-GOARCH[-anything]`. The builder is a column of the grid, grouped by its first two parts. */
  readonly name: string;
  /** A `hostType` of `hosts`. */
  readonly host: string;
  /** Names and globs of `repos`. Default all. */
  readonly repos?: string | readonly string[];
  /** Names and globs of the branches that the repository watches. Default all. */
  readonly branches?: string | readonly string[];
  /** Further decides what is built: `repos`, `branches` and `builds` must all agree. */
  readonly builds?: Builds;
  /**
   * The steps in their order. The first that fails ends the build. A string is a step of that command. `script(...)`
   * makes several.
   */
  readonly steps: readonly (StepInput | string)[];
  /** What is written to a machine first. Default: the tree of the commit, to `src`. */
  readonly sources?: readonly SourceInput[];
  readonly env?: EnvInput;
  /** Variables that go before the environment of the host type, which can override them. */
  readonly baseEnv?: EnvInput;
  /**
   * Each commit is built together with the newest commit of each of these branches of another repository, and again
   * with every newer one: a build is of a pair. `{ commit: "other" }` in `sources` is the tree of the other commit.
   * Both commits of a pair are commits that the farm found.
   */
  readonly against?: AgainstInput;
  /**
   * True: the network of the machines fails at times. Commands have GO_BUILDER_FLAKY_NET=1 in their environment.
   * Default false.
   */
  readonly flakyNet?: boolean;
  /**
   * Whole hashes of commits without which it cannot build. A commit whose history does not have all of them is not
   * built, as far back as the farm knows (a repository's `history`). With `against` they are commits of the other
   * repository.
   */
  readonly needs?: readonly string[];
  /** The oldest Go release that is built, such as `"1.21"`: no branch `release-branch.go1.N` that is older. */
  readonly minimumGoVersion?: string;
  /** Issue numbers or URLs. The builder is shown grey, since its failures are known. */
  readonly knownIssues?: readonly (number | string)[];
  readonly notes?: string;
  /**
   * What happens to waiting builds when a newer commit of their branch is found. `every` (the default): they are built.
   * `newest`: they are skipped, unless somebody asked for them. `batch`: those for which no machine is free are
   * skipped; when the newest is red after a green one, commits between them are built until the culprit is known, first
   * those 1, 2, 4, 8 ... before the red one.
   */
  readonly superseded?: Superseded;
  /** True: builds only what somebody asks for, never what was submitted. Default false. */
  readonly tryOnly?: boolean;
  /** Tests that run after the steps, test by test, shared with `helpers`. */
  readonly tests?: TestsInput;
  /** How the tree is kept. Default, if there are tests: everything, up to the default limit. */
  readonly snapshot?: SnapshotInput;
  /** True: neither uses nor stores a snapshot; excludes helpers. Default false. */
  readonly skipSnapshot?: boolean;
  /** True: the build ends after the steps, even if there are tests. Default false. */
  readonly stopAfterMake?: boolean;
  /**
   * True: tests are compiled and not run. Commands have BARNRAISER_COMPILE_ONLY=1 in their environment. Default false.
   */
  readonly compileOnly?: boolean;
  /**
   * How many further machines share the tests of one build while that is useful. A build never waits for them. Default
   * 0.
   */
  readonly helpers?: number;
  /** The same for builds that somebody asked for. Default: the value of `helpers`. */
  readonly tryHelpers?: number;
  /** The limit of each step that has none of its own. Default `"1h"`. */
  readonly timeLimit?: Duration;
  /**
   * The limit of all commands of a build together. The farm has the same time again for what comes before them and for
   * attempts that it loses. Default `"6h"`.
   */
  readonly buildTimeLimit?: Duration;
  /** A command that prints nothing for this long is stopped. Default `"30m"`. */
  readonly silenceLimit?: Duration;
  /** The limit for getting the source and writing it to the machine. Default `"30m"`. */
  readonly uploadTimeLimit?: Duration;
}

export interface PolicyQuestion {
  readonly builder: string;
  readonly repo: string;
  readonly branch: string;
}

/** Rules that apply to all builders, checked before a builder's own. Both functions are pure. */
export interface Policy {
  readonly name: string;
  /** True: no builder ever builds this, even if its own rules say so. */
  readonly refuses: (question: PolicyQuestion) => boolean;
  /** What is built by builders that have no `repos`, `branches` and `builds` of their own. */
  readonly byDefault: (question: PolicyQuestion) => boolean;
}
