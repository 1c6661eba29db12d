/**
 * A build: one builder's answer about one commit.
 *
 *   scheduled  planned; its attempt wants a machine
 *   running    an attempt holds a machine
 *   ended      has an outcome
 *
 *   scheduled -attempt begins-> running -verdict-> ended
 *   running -infra failure, budget left-> scheduled (a new attempt);  scheduled|running -cancel-> ended
 *
 * An attempt is one try on one machine, and moves `waiting -> running -> ended` once. Invariants: an open build has
 * exactly one open attempt; an open attempt has exactly one open lease; a verdict is written only by the attempt
 * that is still `running` in the database, so an attempt that was given up cannot write any more.
 */
export type BuildState = "scheduled" | "running" | "ended";
export type AttemptState = "waiting" | "running" | "ended";

/** `failure` is the code's, `infra_failure` is the farm's. Only `success` and `failure` paint a cell for good. */
export type Outcome = "success" | "failure" | "infra_failure" | "canceled";

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

/** One command of a build, as stored in its recipe. */
export interface Step {
  readonly name: string;
  /** Program and arguments, argv[0] by the exec path rule (wire/buildlet-api). */
  readonly command: readonly string[];
  /** Working directory relative to the source tree; "" is its root. */
  readonly dir: string;
  /** `K=V`, in order, later wins. */
  readonly env: readonly string[];
  /** PATH elements (`$PATH`, `$WORKDIR`, `$EMPTY` as in the exec API); empty leaves PATH alone. */
  readonly path: readonly string[];
  /** The step is stopped and fails after this long. */
  readonly timeLimitMs: number;
}

/** All that a build needs to know of its builder, fixed when the build is planned; stored once per digest. */
export interface Recipe {
  readonly builder: string;
  readonly hostType: string;
  /** GO_BUILDER_NAME and the like, host env, builder env: before each step's own. */
  readonly env: readonly string[];
  /** Folder below the work dir that the source tarball is unpacked to. */
  readonly sourceDir: string;
  readonly steps: readonly Step[];
}

/** An infra failure is tried again at most this many times before the build ends as `infra_failure`. */
export const INFRA_RETRIES = 3;
