/** The shape of a builder: what it builds, from which sources, by which steps, with what limits. */
import * as z from "zod";
import type { Limits, SnapshotSpec, SourcePart } from "../../farm/build.ts";
import { type Ms, ms } from "../../farm/ids.ts";
import type { BuilderConfig } from "../effective.ts";
import type { Builds } from "../input.ts";
import { folderFault, nameFault, platformOf } from "../names.ts";
import { urlFault } from "../urls.ts";
import { fields } from "./faults.ts";
import { type StepShape, step } from "./step.ts";
import { type TestsShape, tests } from "./tests.ts";
import { checked, env, globs, listOf, name, oneLine, size, span, text, UNITS, WEEK, whole, yesNo } from "./values.ts";

/** A builder whose fields are each valid, before they are checked against each other. */
export type BuilderShape = Omit<BuilderConfig, "steps" | "tests"> & {
  readonly steps: readonly StepShape[];
  readonly tests: TestsShape | null;
  readonly timeLimitMs: Ms;
};

const placeBelowWorkDir = checked("want a folder", (value) =>
  value === ""
    ? "want a folder below the work folder, it is empty"
    : folderFault(value)?.replace("the source tree", "the work folder"),
);

const source = fields(
  {
    dir: placeBelowWorkDir,
    name: checked("want a name", nameFault).optional(),
    commit: z.enum(["own", "other"], 'want "own" or "other"').optional(),
    file: placeBelowWorkDir.optional(),
    text: z.string("want text").max(1_000_000, "want at most 1000000 characters").optional(),
    url: checked("want an http(s) address", (value) =>
      /^https?:\/\/[^\s\p{C}]+$/u.test(value) ? urlFault(value) : "want an http(s) address",
    ).optional(),
  },
  "want { dir, commit }, { dir, file, text } or { dir, url }",
).transform(({ dir, name: named, commit, file, text: content, url }, context): SourcePart => {
  const place = { dir, ...(named !== undefined && { name: named }) };
  const given = [commit, file, url].filter((one) => one !== undefined);
  if (given.length === 1 && (file === undefined) === (content === undefined)) {
    if (commit !== undefined) return { ...place, commit };
    if (url !== undefined) return { ...place, url };
    if (file !== undefined && content !== undefined) return { ...place, file, text: content };
  }
  context.addIssue({ code: "custom", message: "want one of commit, url, or file with text" });
  return z.NEVER;
});

const sources = z
  .array(source, "want a list of sources")
  .refine(
    (list) => list.filter((part) => "commit" in part && part.commit === "own").length === 1,
    'want exactly one { dir, commit: "own" }: steps are run below it',
  );

/** The default snapshot: everything, for as long as somebody may still ask for the build again. */
const snapshot: z.ZodType<SnapshotSpec> = fields(
  {
    exclude: z
      .preprocess(
        (value) => (typeof value === "string" ? [value] : value),
        listOf(oneLine, "want a pattern or a list of them"),
      )
      .default([]),
    remove: z.array(checked("want a folder", folderFault), "want a list of folders").optional(),
    limit: size("1KiB", "1TiB").default(2 * UNITS.GiB),
    keep: span("1m", "8760h").default(WEEK),
  },
  "want { exclude, limit, keep }",
).transform(({ exclude, remove, limit, keep }) => ({
  exclude,
  ...(remove && { remove }),
  limitBytes: limit,
  keepMs: keep,
}));
const DEFAULT_SNAPSHOT: SnapshotSpec = { exclude: [], limitBytes: 2 * UNITS.GiB, keepMs: WEEK };

const knownIssue = z.unknown().transform((value, context): number | string => {
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  if (typeof value === "string" && /^https?:\/\/[^\s\p{C}]+$/u.test(value)) return value;
  context.addIssue({ code: "custom", message: "want the number of an issue, from 1, or its http(s) address" });
  return z.NEVER;
});

const hashRule = "want the whole hash of a commit";
const goVersionRule = 'want a version of Go such as "1.21"';

/** The limits that were given. No `limits` at all when none was. */
function limitsOf(given: { readonly [name in keyof Limits]: Ms | undefined }): { readonly limits?: Limits } {
  const limits = Object.fromEntries(Object.entries(given).filter(([, span]) => span !== undefined));
  return Object.keys(limits).length === 0 ? {} : { limits };
}

export const builder: z.ZodType<BuilderShape> = fields(
  {
    name,
    host: z.string("want a hostType"),
    repos: globs.nullable().default(null),
    branches: globs.nullable().default(null),
    builds: z
      .custom<Builds>((value) => typeof value === "function", "want a function (repo, branch) => boolean")
      .nullable()
      .default(null),
    steps: z.array(step, "want a list of steps").min(1, "want at least one step").max(1000, "want at most 1000 steps"),
    sources: sources.optional(),
    against: fields(
      { repo: name, branches: globs.default(["**"]), builtBy: name.exactOptional() },
      "want { repo, branches }",
    ).optional(),
    env,
    baseEnv: env.optional(),
    needs: z
      .array(z.string(hashRule).regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/, hashRule), "want a list of commits")
      .optional(),
    flakyNet: yesNo.optional(),
    minimumGoVersion: z
      .string(goVersionRule)
      .regex(/^1\.\d{1,4}$/, goVersionRule)
      .optional(),
    knownIssues: listOf(knownIssue, "want a list of issues").default([]),
    notes: text("many lines").default(""),
    superseded: z.enum(["every", "newest", "batch"], 'want "every", "newest" or "batch"').default("every"),
    tryOnly: yesNo.default(false),
    tests: tests.nullable().default(null),
    snapshot: snapshot.nullable().default(null),
    skipSnapshot: yesNo.default(false),
    stopAfterMake: yesNo.default(false),
    compileOnly: yesNo.default(false),
    helpers: whole(0, 1000).default(0),
    tryHelpers: whole(0, 1000).optional(),
    timeLimit: span("1s", "168h").default(ms(3_600_000)),
    buildTimeLimit: span("1s", "168h").optional(),
    silenceLimit: span("1s", "168h").optional(),
    uploadTimeLimit: span("1s", "168h").optional(),
  },
  "want { name, host, steps }",
).transform(({ timeLimit, buildTimeLimit, silenceLimit, uploadTimeLimit, minimumGoVersion, ...rest }) => ({
  ...rest,
  ...limitsOf({ buildMs: buildTimeLimit, silenceMs: silenceLimit, uploadMs: uploadTimeLimit }),
  ...platformOf(rest.name),
  minimumGoMinor: minimumGoVersion === undefined ? undefined : Number(minimumGoVersion.slice(2)),
  snapshot: rest.snapshot ?? (rest.tests === null || rest.skipSnapshot ? null : DEFAULT_SNAPSHOT),
  tryHelpers: rest.tryHelpers ?? rest.helpers,
  timeLimitMs: timeLimit,
}));
