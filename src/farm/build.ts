/**
 * A build: one builder's answer about one commit.
 *
 *   scheduled  planned; its attempt wants a machine
 *   running    an attempt holds a machine
 *   ended      has an outcome
 *
 *   scheduled -attempt begins-> running -verdict-> ended
 *   running -infra failure, budget left-> scheduled (a new attempt)
 *   scheduled|running -cancel-> ended;  scheduled -skip-> ended
 *
 * An attempt is one try on one machine, and moves `waiting -> running -> ended` once. Invariants: an open build has
 * exactly one open attempt; an open attempt has exactly one open lease; only the attempt that is still `running` in the
 * database writes a verdict, so an attempt that was given up cannot write any more.
 */
export type BuildState = "scheduled" | "running" | "ended";
export type AttemptState = "waiting" | "running" | "ended";

/**
 * How a build ended. `failure` means that the code failed, `infra_failure` that the farm failed. `canceled`: somebody
 * stopped it. `skipped`: the farm ended it before it began, since a newer commit overtook it. Only `success` and
 * `failure` colour a cell for good.
 */
export type Outcome = "success" | "failure" | "infra_failure" | "canceled" | "skipped";

/** What happens to waiting builds when a newer commit of their branch is found (builds/overtaken.ts). */
export type Superseded = "every" | "newest" | "batch";

/** Where code came from. `submitted`: the coordinator itself found the commit on a watched branch. */
export type Provenance = "submitted" | "reviewed" | "unreviewed";

/** Who runs the machines of a host type. `community` machines run `submitted` code only (lease claim). */
export type Trust = "team" | "community";

/** Status of a cell, a build or a step as people see it: glyph, colour and word (ui/status). */
export type Status =
  | "success"
  | "failure"
  | "infra_failure"
  | "canceled"
  | "running"
  | "waiting"
  | "skipped"
  | "flaky"
  | "known_issue";

/** Something that is written to a machine before the first step (builds/sources.ts). */
export type SourcePart = {
  /** A folder below the work dir. Parts of one folder are written in order, those of different folders at once. */
  readonly dir: string;
  /** What the log calls the writing of the part. Left out: a sentence made from it. */
  readonly name?: string;
} & (
  | {
      /** The tree of the commit that is built, or of the one that it is tested with. */
      readonly commit: "own" | "other";
    }
  /** A file whose text is in the configuration. `$COMMIT` and `$OTHER` in it stand for these commits. */
  | { readonly file: string; readonly text: string }
  /** An archive (tar.gz) that the machine fetches. */
  | { readonly url: string }
);

/**
 * A commit of another repository that a commit is tested with. The build is then of this pair. Another commit of the
 * other repository makes another recipe, like any change in what a build is asked to do.
 */
export interface OtherTree {
  readonly repo: string;
  /** The branch whose newest commit this was. */
  readonly branch: string;
  readonly hash: string;
  /** The builder whose snapshot of the other commit is used instead of making its tree again. Left out: none. */
  readonly builtBy?: string;
}

/** One command of a build, as stored in its recipe. */
export interface Step {
  readonly name: string;
  /** Program and arguments, argv[0] by the exec path rule (wire/buildlet-api). */
  readonly command: readonly string[];
  /** Working directory. Relative to the source tree, whose root is ""; or below `$WORKDIR`, the work dir. */
  readonly dir: string;
  /** `K=V`, in order, later wins; `$WORKDIR` in a value is the machine's work dir. */
  readonly env: readonly string[];
  /** PATH elements (`$PATH`, `$WORKDIR`, `$EMPTY` as in the exec API); empty leaves PATH alone. */
  readonly path: readonly string[];
  /** The step is stopped and fails after this long. */
  readonly timeLimitMs: number;
  /** The output begins with a line about the command that is run. */
  readonly showCommand?: true;
  /** The step makes the other tree. It is left out when that tree came from a snapshot. */
  readonly makesOther?: true;
}

/** Everything that a build needs to know of its builder. Fixed when the build is planned, stored once per digest. */
export interface Recipe {
  readonly builder: string;
  readonly hostType: string;
  /** GO_BUILDER_NAME and the like, then the host's and the builder's variables. They go before each step's own. */
  readonly env: readonly string[];
  /** Folder below the work dir that the source tarball is unpacked to. */
  readonly sourceDir: string;
  readonly with?: OtherTree;
  /** Left out: the commit's tree in `sourceDir`, and nothing else. */
  readonly sources?: readonly SourcePart[];
  /** The steps that make the tree. With `tests`, these run before the tests. */
  readonly steps: readonly Step[];
  // A part that a builder does not have is left out, so that recipes from before that part existed keep their digest.
  readonly tests?: TestsSpec;
  readonly snapshot?: SnapshotSpec;
  readonly limits?: Limits;
  /** There are tests, and this builder leaves them to other builders. */
  readonly stopAfterMake?: true;
  /** Tests are compiled and not run. COMPILE_ONLY tells this to the commands. */
  readonly compileOnly?: true;
}

/** A variable in the environment of every command of a builder with `compileOnly`. */
export const COMPILE_ONLY = "BARNRAISER_COMPILE_ONLY=1";

/** The tests of a build: where their names come from, and what runs a group of them. */
export interface TestsSpec {
  readonly list: TestList;
  /** Patterns of the listed tests that are run. Left out: all are run. */
  readonly only?: readonly string[];
  /** Patterns of tests that are never in a group with others. */
  readonly alone?: readonly string[];
  /** "go-dist": the list is that of `go tool dist test` (builds/go-dist.ts). "go-test": `run` runs `go test`. */
  readonly dialect?: "go-dist" | "go-test";
  /** Runs one group. The names of its tests follow the arguments; or one argument follows, a file with the names. */
  readonly run: Step;
  /** `dir`: a test is a folder, and the command runs there, for each folder alone. */
  readonly names: "args" | "file" | "dir";
  readonly results: TestResults;
  /** About how long a group should take. */
  readonly groupTargetMs: number;
  /** How long a test is expected to take that has never run before. */
  readonly unknownMs: number;
  /** How many further machines a post-submit build gets, and a build that somebody asked for. */
  readonly helpers: number;
  readonly tryHelpers: number;
  /** True: after the first failure the rest runs too. False: nothing new is begun. */
  readonly keepGoing: boolean;
}

/**
 * Where the names of the tests come from. `foldersWith`: all folders below the source tree that have a file of that
 * name.
 */
export type TestList =
  | { readonly command: Step }
  | { readonly names: readonly string[] }
  | { readonly foldersWith: string };

/**
 * How the result of each test of a group is found.
 *
 *   exit          the command ended well: all passed; else all failed, and of several each is run alone
 *   go-test-json  the output is that of `go test -json`
 *   junit         the command wrote JUnit XML to files that match a glob below the source tree
 *   markers       the output has lines of ours between that of the tests (builds/test-markers.ts)
 */
export type TestResults = "exit" | "go-test-json" | "markers" | { readonly junit: string };

/** How the tree after the steps is kept, for helpers, retries and rebuilds. */
export interface SnapshotSpec {
  /** Lines as in a `.gitignore`. */
  readonly exclude: readonly string[];
  /** Folders below the source tree that are removed before it is packed, since no test needs them. */
  readonly remove?: readonly string[];
  /** The limit for the packed tree. A larger tree is not kept, and nothing fails because of that. */
  readonly limitBytes: number;
  readonly keepMs: number;
}

/** What stops a build as a whole, beside the limits of its steps. */
export interface Limits {
  readonly buildMs?: number;
  /** A command that prints nothing for so long is stopped. */
  readonly silenceMs?: number;
  /** The limit for getting the source and writing it to the machine. */
  readonly uploadMs?: number;
}

/** An infra failure is tried again at most this many times before the build ends as `infra_failure`. */
export const INFRA_RETRIES = 3;
