/**
 * What a person writes in `farm.config.ts`. Everything that can have a default has one; `check.ts` fills it in, refuses
 * what cannot work, and gives the effective farm of `effective.ts`, which is all that the rest of the program sees.
 */
import type { Superseded, Trust } from "../farm/build.ts";
import type { Role } from "../farm/person.ts";

/** A span: `"90s"`, `"10m"`, `"1h30m"`, `"250ms"`. */
export type Duration = string;

/** Environment: `{ KEY: "value" }`, or `["KEY=value"]` where the order or a repeated key matters. */
export type EnvInput = Readonly<Record<string, string>> | readonly string[];

/** Where a secret is kept; the secret itself never stands in the configuration. A relative file is looked up beside the configuration. */
export type Secret = { readonly env: string } | { readonly file: string };

export interface FarmInput {
  readonly repos: readonly RepoInput[];
  readonly hosts: readonly HostInput[];
  readonly builders: readonly BuilderInput[];
  /** House rules over all builders; `goPolicy` is the Go project's. Left out: nothing is refused, everything is built. */
  readonly policy?: Policy;
  /** Where people reach the pages, `https://farm.example.org`: for the links in messages. Left out: messages have none. */
  readonly publicUrl?: string;
  /** Who hears of trouble beside the owners of machines, and how mail is sent. Left out: only webhooks of owners work. */
  readonly notify?: NotifyInput;
  /** How long things are kept. Each has a default. */
  readonly retention?: RetentionInput;
  /** Machines that people borrow (`gomote`): how many, and for how long. Each has a default. */
  readonly gomote?: GomoteInput;
  /** Where people log in on the pages; needs `publicUrl`. Left out: with tokens only. */
  readonly login?: LoginInput;
}

export interface GomoteInput {
  /** Machines that one person may have or wait for at a time. Default 20. */
  readonly perPerson?: number;
  /** A machine is taken back when its borrower has not used it for so long. Default `"30m"`. */
  readonly idle?: Duration;
  /** And after this in any case. Default `"7d"`. */
  readonly longest?: Duration;
  /** Whoever waits for a machine is told after this that none came free. Default `"4h"`. */
  readonly wait?: Duration;
  /**
   * What the coordinator fetches for a person who wants it on their machine: `"nothing"` but what they uploaded to the farm, or what anybody in
   * the world can have (`"public"`): then every member reaches the world from where the coordinator stands. Default `"nothing"`.
   */
  readonly fetch?: "nothing" | "public";
  /** From which ports. Default `[80, 443]`. */
  readonly fetchPorts?: readonly number[];
  /** The largest file that is taken on its way between a person and a machine. Default `"10GiB"`. */
  readonly transferLimit?: string;
}

/**
 * An OpenID Connect provider, at which this farm is registered with the redirect address `PUBLICURL/login/callback`, and
 * with `PUBLICURL/` for after logging out there. Users log in there; whose mail
 * address it has not verified is not let in.
 */
export interface LoginInput {
  /** As in the provider's own `/.well-known/openid-configuration`. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: Secret;
  /** What the button says. Default: the host of `issuer`. */
  readonly name?: string;
  /** Who becomes a user by logging in: mail addresses, and `*@DOMAIN`. Default `[]`: only users whom an operator has added log in. */
  readonly allow?: readonly string[];
  /**
   * Roles that are given, and taken, at each login: to `"everybody"`, or to whom the provider says so of in a claim, such as
   * `{ claim: "groups", is: "farm-team" }`. Roles that are not named here are an operator's to give. Default `{ member: "everybody" }`.
   */
  readonly roles?: Partial<
    Record<Role, "everybody" | { readonly claim: string; readonly is: string | readonly string[] }>
  >;
}

/**
 * Whom to tell: a mail address, with or without `mailto:`; an `https://` address that takes webhooks; or `{ webhook }`, whose address may be
 * a secret itself, with the secret that its messages are signed with.
 */
export type RecipientInput = string | { readonly webhook: string | Secret; readonly secret?: Secret };

export interface NotifyInput {
  /** Hear of everything. Default: nobody. */
  readonly operators?: RecipientInput | readonly RecipientInput[];
  /** Left out: no mail is sent. */
  readonly mail?: MailInput;
}

export interface MailInput {
  readonly host: string;
  /** Default: 465 with `tls`, 587 with `starttls`, 25 with `none`. */
  readonly port?: number;
  /** `tls` from the first byte; `starttls` or nothing is sent; `none` for a relay on this computer. Default `starttls`. */
  readonly security?: "tls" | "starttls" | "none";
  readonly user?: string;
  readonly password?: Secret;
  /** The sender's mail address. */
  readonly from: string;
  /** PEM file with the CA of the mail server, when the world does not know it; relative to the configuration. */
  readonly caFile?: string;
}

/** Spans since something ended; days may be written as `"30d"`. */
export interface RetentionInput {
  /** Logs of builds that succeeded. Default `"30d"`. */
  readonly greenLogs?: Duration;
  /** Logs of all other builds. Default `"90d"`, at least `greenLogs`. */
  readonly logs?: Duration;
  /**
   * Builds with all that they were, and commits that no branch's `history` has. The newest result of each builder on a branch stays, and of
   * each cell of the grid. Default `"365d"`, at least `logs`.
   */
  readonly builds?: Duration;
  /**
   * What there is to see of machines that people had borrowed: who, when, and what they ran. Recordings of shells go with `logs` where that is
   * sooner; that there was an instance, and each command by its first words, is in the audit as well. Default `"180d"`.
   */
  readonly gomotes?: Duration;
  /** Connections of machines, what they reported differently, and tokens of users that are good no more. Default `"180d"`. */
  readonly sessions?: Duration;
  /** Who did what. Default `"730d"`. */
  readonly audit?: Duration;
  /** Messages that were sent or given up. Default `"30d"`. */
  readonly notices?: Duration;
}

export interface RepoInput {
  /** Letters, digits, `.`, `_`, `-`; as in the address `/p/NAME`. */
  readonly name: string;
  /** A folder (relative to the configuration), `file://`, `http(s)://`, `ssh://` or `user@host:path`. */
  readonly url: string;
  /**
   * Branch names and globs: `*` is anything but `/`, `**` anything, `?` one character, `!GLOB` takes away again.
   * `HEAD` (the default) is whatever the repository's own default branch is; for a checkout, the branch it is on.
   */
  readonly branches?: string | readonly string[];
  /** Tries of these branches go before other tries; names and globs. Default `["release-branch*", "release/*"]`. */
  readonly releaseBranches?: string | readonly string[];
  /** How often to look for commits. Default `"15s"`. */
  readonly poll?: Duration;
  /** At most so many of a branch's newest commits are planned when several appear at once. Default 10. */
  readonly depth?: number;
  /** So many of a branch's newest commits are kept for the grid. Default 100, at least `depth`. */
  readonly history?: number;
  /** Accepts `POST /hooks/push` for this repository, signed with this secret. */
  readonly webhook?: Secret;
  /** A password or access token for an `https://` repository that asks for one. */
  readonly token?: Secret;
  /** The user name that goes with `token`. Default `"x-access-token"`. */
  readonly tokenUser?: string;
}

export interface OwnerInput {
  readonly name: string;
  /** Mail address, chat handle or URL; shown to whoever finds the machine missing. */
  readonly contact: string;
  /** Who is told when a machine is missing, set aside or well again. Default: `contact` when that is a mail address; `[]`: nobody. */
  readonly notify?: RecipientInput | readonly RecipientInput[];
}

export interface HostInput {
  /** `host-GOOS-GOARCH[-anything]`; machines register under it. */
  readonly hostType: string;
  /** `GOOS-GOARCH[-variant]`. Default: parts two and three of the name; 32-bit `arm` gets `-7`. */
  readonly hostArch?: string;
  /** How many machines should be connected; the status page shows what is missing. Default 0. */
  readonly expect?: number;
  /** A machine that is missing for longer is reported to its owners and the operators, once. Default `"15m"`. */
  readonly missingAfter?: Duration;
  /**
   * How long what runs on such a machine goes on, and is waited for, after its connection or its coordinator was lost; a buildlet that is
   * started with a shorter `-reconnect` ends earlier. Default `"5m"`.
   */
  readonly reconnectWithin?: Duration;
  /** Goes before the environment of every builder on it. */
  readonly env?: EnvInput;
  readonly owners?: readonly OwnerInput[];
  readonly notes?: string;
  /** `reverse`: machines dial in. `local`: the computer that the coordinator runs on. Default `reverse`. */
  readonly pool?: "reverse" | "local";
  /** `community` machines only ever run submitted code. Default: `team` for `local`, else `community`. */
  readonly trust?: Trust;
  /** Accepts the key shared by the whole host type, beside keys of one machine. Default true. */
  readonly sharedKey?: boolean;
  /** Each connection is a freshly made machine. Default false. */
  readonly hermetic?: boolean;
  /**
   * Who may borrow its machines with `gomote`: `members` are all people that the farm knows, `team` those with the role `team` or `operator`.
   * Default: `nobody` for `community` machines, else `members`.
   */
  readonly gomote?: "nobody" | "team" | "members";
  /** So many of its machines may be lent at a time, those included that somebody waits for. Default: all. */
  readonly gomoteMost?: number;
  /** What the machines' owner agrees to. `gomote`: that people run there what they like. Default: false for `community` machines, else true. */
  readonly lend?: { readonly gomote: boolean };
}

export interface StepInput {
  /** Default: the beginning of the command. */
  readonly name?: string;
  /**
   * One string is run by the machine's shell (`sh -ec`, on Windows `cmd /c`); a list is a program and its arguments.
   * A program with a `/` in it, like `./make.bash`, is relative to `dir`; with `$WORKDIR/` in front, to the machine's work folder.
   */
  readonly command: string | readonly string[];
  /** Where to run, relative to the source tree; `"$WORKDIR"` and what is below it are of the machine's work folder. Default: the tree's root. */
  readonly dir?: string;
  /** `$WORKDIR` in a value is the machine's work folder. */
  readonly env?: EnvInput;
  /** PATH elements; `$PATH` stands for what it was, `$WORKDIR` for the machine's work folder. Left out: untouched. */
  readonly path?: readonly string[];
  /** The step is stopped and fails after this long. Default: the builder's. */
  readonly timeLimit?: Duration;
  /** The output begins with a line that tells what is run, with which arguments and variables. Default false. */
  readonly showCommand?: boolean;
  /** It makes the other tree of a builder with `against`, and is left out where that came from a snapshot. Default false. */
  readonly makesOther?: boolean;
}

/**
 * Something to write to a machine before the first step. What goes to one `dir` is written in the order given, different folders at the same
 * time. `$REPO` in `dir` is the name of the repository.
 */
export type SourceInput = {
  /** Below the machine's work folder. */
  readonly dir: string;
  /** What the log calls the writing of it. */
  readonly name?: string;
} & (
  | {
      /** The tree of the commit that is built, below which steps are run; or of the other commit, with `against`. */
      readonly commit: "own" | "other";
    }
  /** A file of yours; `$COMMIT` in its text is the commit that is built, `$OTHER` the other one. */
  | { readonly file: string; readonly text: string }
  /** A tar.gz that the machine itself fetches. */
  | { readonly url: string }
);

/** The tests of a builder: where their names come from, and what runs a group of them. Says once what many machines then share. */
export interface TestsInput {
  /**
   * A command that prints the names of the tests, one a line, run once per build after the steps; or the names themselves.
   * Spaces around a name do not belong to it, empty lines are nothing, a name that comes twice is one test.
   * With `foldersWith` they are the folders of the source tree that have a file of that name, such as `go.mod`; folders called `testdata`
   * or `vendor`, and those that begin with `.` or `_`, are not looked into.
   */
  readonly list: StepInput | string | readonly string[] | { readonly foldersWith: string };
  /** Patterns of tests that are run, among those listed: `*` is anything but `/`, `**` anything, `!GLOB` takes away. Default all. */
  readonly only?: string | readonly string[];
  /** Patterns of tests that are never run in one command with others. Default none. */
  readonly alone?: string | readonly string[];
  /**
   * `go-test`: what is run is `go test`; a GO_TEST_TIMEOUT_SCALE in the environment lengthens its `-timeout=Nm` and the time limit of a group.
   * `go-dist`: what is listed and run is `go tool dist test` of Go's own tree. Patterns then mean the names that its tests had before Go 1.21
   * (`go_test:net/http`, `test:0_10`, `api`), and a GO_TEST_TIMEOUT_SCALE in the environment lengthens the time limit of a group.
   */
  readonly dialect?: "go-dist" | "go-test";
  /** Further arguments of `run`, before the names, on some branches. */
  readonly argsOn?: { readonly branches: string | readonly string[]; readonly args: readonly string[] };
  /**
   * Runs one group of tests. Text gets their names as `"$@"` (at its end, where it does not say itself), a list has them as further
   * arguments. Its `timeLimit` is that of a group, default `"20m"`.
   */
  readonly run: StepInput | string;
  /**
   * `args`: the names are arguments. `file`: the argument is a file with a name a line. `dir`: a test is a folder of the source tree, and the
   * command is run there without further arguments. Default `args`.
   */
  readonly names?: "args" | "file" | "dir";
  /** How it is known what became of each test of a group. Default `"exit"`: by the command's exit status. */
  readonly results?: "exit" | "go-test-json" | "markers" | { readonly junit: string };
  /** A group of tests is made to take about so long, by what they took before. Default `"10s"`. */
  readonly groupTarget?: Duration;
  /** What a test is taken to need that has not run before. Default `"3s"`. */
  readonly unknown?: Duration;
  /** After a test failed, the rest runs too, so that all failures are known at the end. Default true. */
  readonly keepGoing?: boolean;
}

/** The tree after its steps, packed and kept: helpers, retries and rebuilds start from it. */
export interface SnapshotInput {
  /** What is not needed for the tests, in the words of a `.gitignore`. Default nothing. */
  readonly exclude?: string | readonly string[];
  /** Folders of the tree that are removed before it is packed, and so before the tests. Default none. */
  readonly remove?: readonly string[];
  /** `"500MiB"`, `"2GiB"`: a packed tree that is larger is not kept. Default `"2GiB"`. */
  readonly limit?: string;
  /** How long it may be reused. Default `"168h"`. */
  readonly keep?: Duration;
}

export interface AgainstInput {
  /** A name of `repos`. */
  readonly repo: string;
  /** Names and globs among the branches that it watches, by their own names. Default all. */
  readonly branches?: string | readonly string[];
  /** A builder of that repository: where it kept a snapshot of the commit, that is taken, and steps with `makesOther` are left out. */
  readonly builtBy?: string;
}

/** Whether a builder builds this branch of this repository. */
export type Builds = (repo: string, branch: string) => boolean;

export interface BuilderInput {
  /** `GOOS-GOARCH[-anything]`; a column of the grid, grouped by its first two parts. */
  readonly name: string;
  /** A `hostType` of `hosts`. */
  readonly host: string;
  /** Names and globs of `repos`. Default all. */
  readonly repos?: string | readonly string[];
  /** Names and globs, among the branches that the repository watches. Default all. */
  readonly branches?: string | readonly string[];
  /** Asked besides `repos` and `branches`: all three must agree. */
  readonly builds?: Builds;
  /** In order; the first that fails ends the build. A bare string is a step of that command. `script(...)` makes some. */
  readonly steps: readonly (StepInput | string)[];
  /** What is written to a machine first. Default: the tree of the commit, to `src`. */
  readonly sources?: readonly SourceInput[];
  readonly env?: EnvInput;
  /** Goes before the environment of the host type, which may know better. */
  readonly baseEnv?: EnvInput;
  /**
   * A commit is built together with the newest commit of each of these branches of another repository, and again with every newer one: a build
   * is of a pair. Its tree is that of `{ commit: "other" }` among `sources`. Of a pair, both are commits that the farm found.
   */
  readonly against?: AgainstInput;
  /** Its network fails at times: commands find GO_BUILDER_FLAKY_NET=1 in their environment. Default false. */
  readonly flakyNet?: boolean;
  /**
   * Whole hashes of commits without which it cannot build: a commit whose history has not all of them is not built, as far back as the farm
   * knows (a repository's `history`). With `against` they are commits of the other repository.
   */
  readonly needs?: readonly string[];
  /** Builds no branch `release-branch.go1.N` that is older than this, such as `"1.21"`. */
  readonly minimumGoVersion?: string;
  /** Issue numbers or URLs. The builder is shown grey: its failures are known. */
  readonly knownIssues?: readonly (number | string)[];
  readonly notes?: string;
  /**
   * What becomes of builds that wait when a newer commit of their branch is found. `every` (the default): they are built. `newest`: they are
   * skipped, except what somebody asked for. `batch`: those are skipped that no machine is free for; when the newest is red after a
   * green one, commits between are built until the culprit is known, 1, 2, 4, 8 ... back from the red one first.
   */
  readonly superseded?: Superseded;
  /** Never builds what was submitted, only what is asked for. Default false. */
  readonly tryOnly?: boolean;
  /** What is run after the steps, test by test, shared with `helpers`. */
  readonly tests?: TestsInput;
  /** Default, where there are tests: everything is kept, up to the default limit. */
  readonly snapshot?: SnapshotInput;
  /** Neither fetches nor stores a snapshot; excludes helpers. Default false. */
  readonly skipSnapshot?: boolean;
  /** Ends after the steps, whatever tests there are. Default false. */
  readonly stopAfterMake?: boolean;
  /** Tests are compiled and not run: commands find BARNRAISER_COMPILE_ONLY=1 in their environment. Default false. */
  readonly compileOnly?: boolean;
  /** Further machines that share the tests of one build while that is useful. A build never waits for them. Default 0. */
  readonly helpers?: number;
  /** The same for builds that somebody asked for. Default: as many as `helpers`. */
  readonly tryHelpers?: number;
  /** For each step that has no limit of its own. Default `"1h"`. */
  readonly timeLimit?: Duration;
  /** For all commands of a build together; the farm has as long again for what comes before them and what it loses. Default `"6h"`. */
  readonly buildTimeLimit?: Duration;
  /** A command that prints nothing for so long is stopped. Default `"30m"`. */
  readonly silenceLimit?: Duration;
  /** For getting the source and writing it to the machine. Default `"30m"`. */
  readonly uploadTimeLimit?: Duration;
}

export interface PolicyQuestion {
  readonly builder: string;
  readonly repo: string;
  readonly branch: string;
}

/** House rules, asked before a builder's own. Both functions are pure. */
export interface Policy {
  readonly name: string;
  /** No builder ever builds this, whatever it says itself. */
  readonly refuses: (question: PolicyQuestion) => boolean;
  /** What a builder builds that has neither `repos` nor `branches` nor `builds` of its own. */
  readonly byDefault: (question: PolicyQuestion) => boolean;
}
