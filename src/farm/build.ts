/**
 * A build: one builder's answer about one commit.
 *
 *   scheduled  planned; its attempt wants a machine
 *   running    an attempt holds a machine
 *   ended      has an outcome
 *
 *   scheduled -attempt begins-> running -verdict-> ended
 *   running -infra failure, budget left-> scheduled (a new attempt);  scheduled|running -cancel-> ended;  scheduled -skip-> ended
 *
 * An attempt is one try on one machine, and moves `waiting -> running -> ended` once. Invariants: an open build has
 * exactly one open attempt; an open attempt has exactly one open lease; a verdict is written only by the attempt
 * that is still `running` in the database, so an attempt that was given up cannot write any more.
 */
export type BuildState = "scheduled" | "running" | "ended";
export type AttemptState = "waiting" | "running" | "ended";

/**
 * `failure` is the code's, `infra_failure` is the farm's; `canceled` by somebody, `skipped` by the farm itself before it began, since
 * a newer commit overtook it. Only `success` and `failure` paint a cell for good.
 */
export type Outcome = "success" | "failure" | "infra_failure" | "canceled" | "skipped";

/** What becomes of builds that wait when a newer commit of their branch is found (builds/overtaken.ts). */
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
  /** Below the work dir. Parts of one folder are written in order, different folders at once. */
  readonly dir: string;
  /** What the log calls the writing of it; without one, a sentence. */
  readonly name?: string;
} & (
  | {
      /** The tree of the commit that is built, or of the one that it is tested with. */
      readonly commit: "own" | "other";
    }
  /** A file of the farm's own; `$COMMIT` and `$OTHER` in its text are these commits. */
  | { readonly file: string; readonly text: string }
  /** An archive (tar.gz) that the machine fetches. */
  | { readonly url: string }
);

/**
 * A commit of another repository that a commit is tested with: a build is then of this pair, and another commit of the other repository makes
 * another recipe, as anything does that changes what is asked.
 */
export interface OtherTree {
  readonly repo: string;
  /** The branch whose newest commit it was. */
  readonly branch: string;
  readonly hash: string;
  /** The builder whose snapshot of it is taken instead of making it once more; left out: none. */
  readonly builtBy?: string;
}

/** One command of a build, as stored in its recipe. */
export interface Step {
  readonly name: string;
  /** Program and arguments, argv[0] by the exec path rule (wire/buildlet-api). */
  readonly command: readonly string[];
  /** Working directory relative to the source tree, "" is its root; or below `$WORKDIR`, the work dir. */
  readonly dir: string;
  /** `K=V`, in order, later wins; `$WORKDIR` in a value is the machine's work dir. */
  readonly env: readonly string[];
  /** PATH elements (`$PATH`, `$WORKDIR`, `$EMPTY` as in the exec API); empty leaves PATH alone. */
  readonly path: readonly string[];
  /** The step is stopped and fails after this long. */
  readonly timeLimitMs: number;
  /** The output begins with a line that tells what is run. */
  readonly showCommand?: true;
  /** It makes the other tree: not needed when that came from a snapshot. */
  readonly makesOther?: true;
}

/** All that a build needs to know of its builder, fixed when the build is planned; stored once per digest. */
export interface Recipe {
  readonly builder: string;
  readonly hostType: string;
  /** GO_BUILDER_NAME and the like, host env, builder env: before each step's own. */
  readonly env: readonly string[];
  /** Folder below the work dir that the source tarball is unpacked to. */
  readonly sourceDir: string;
  readonly with?: OtherTree;
  /** Left out: the commit's tree in `sourceDir`, and nothing else. */
  readonly sources?: readonly SourcePart[];
  /** What makes the tree; with `tests`, what comes before them. */
  readonly steps: readonly Step[];
  // A part that a builder does not have is left out, so that recipes of before are named as before.
  readonly tests?: TestsSpec;
  readonly snapshot?: SnapshotSpec;
  readonly limits?: Limits;
  /** There are tests, and this builder leaves them to others. */
  readonly stopAfterMake?: true;
  /** Tests are compiled and not run; what runs them is told by COMPILE_ONLY. */
  readonly compileOnly?: true;
}

/** In the environment of every command of a builder with `compileOnly`. */
export const COMPILE_ONLY = "BARNRAISER_COMPILE_ONLY=1";

/** The tests of a build: where their names come from, and what runs a group of them. */
export interface TestsSpec {
  readonly list: TestList;
  /** Of what is listed: patterns of what is run. Left out: everything. */
  readonly only?: readonly string[];
  /** Patterns of tests that are never in a group with others. */
  readonly alone?: readonly string[];
  /** What is listed is that of `go tool dist test` (builds/go-dist.ts), or what is run is `go test`. */
  readonly dialect?: "go-dist" | "go-test";
  /** Runs one group; the names of its tests come after its arguments, or one argument that is a file of them. */
  readonly run: Step;
  /** `dir`: a test is a folder, and the command runs there, for each alone. */
  readonly names: "args" | "file" | "dir";
  readonly results: TestResults;
  /** A group is made to take about so long. */
  readonly groupTargetMs: number;
  /** What a test is expected to take that nobody has run before. */
  readonly unknownMs: number;
  /** Further machines of a post-submit build, and of one that somebody asked for. */
  readonly helpers: number;
  readonly tryHelpers: number;
  /** After the first failure the rest runs too; otherwise nothing new is begun. */
  readonly keepGoing: boolean;
}

/** Where the names of the tests come from. `foldersWith`: every folder below the source tree that has a file of that name. */
export type TestList =
  | { readonly command: Step }
  | { readonly names: readonly string[] }
  | { readonly foldersWith: string };

/**
 * How it is known what became of each test of a group.
 *
 *   exit          the command ended well: all passed; else all failed, and of several each is run alone
 *   go-test-json  the output is that of `go test -json`
 *   junit         the command wrote JUnit XML to files that match a glob below the source tree
 *   markers       the output has lines of ours between that of the tests (builds/test-markers.ts)
 */
export type TestResults = "exit" | "go-test-json" | "markers" | { readonly junit: string };

/** The tree after its steps, kept for helpers, retries and rebuilds. */
export interface SnapshotSpec {
  /** Lines as in a `.gitignore`. */
  readonly exclude: readonly string[];
  /** Folders below the source tree that are removed before it is packed, since no test needs them. */
  readonly remove?: readonly string[];
  /** Of the packed tree. A larger one is not kept, which fails nothing. */
  readonly limitBytes: number;
  readonly keepMs: number;
}

/** What stops a build as a whole, beside the limits of its steps. */
export interface Limits {
  readonly buildMs?: number;
  /** A command that prints nothing for so long is stopped. */
  readonly silenceMs?: number;
  /** Getting the source, and writing it to the machine. */
  readonly uploadMs?: number;
}

/** An infra failure is tried again at most this many times before the build ends as `infra_failure`. */
export const INFRA_RETRIES = 3;
