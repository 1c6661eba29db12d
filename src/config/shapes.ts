/**
 * The shape of a farm: which fields there are, what each may hold and what it is when left out. What one field has to do with
 * another is check.ts's.
 *
 * Every rule is a sentence for the person who broke it. Objects are strict: a field that nobody knows is a mistake, since
 * most are misspelt ones that would otherwise silently do nothing.
 */
import * as z from "zod";
import type { Limits, SnapshotSpec, SourcePart, Step } from "../farm/build.ts";
import { parseDuration } from "../farm/flags.ts";
import { type Ms, ms } from "../farm/ids.ts";
import type {
  BuilderConfig,
  FarmConfig,
  HostConfig,
  MailConfig,
  NotifyConfig,
  OwnerConfig,
  Recipient,
  RepoConfig,
  RetentionConfig,
  TestsConfig,
} from "./effective.ts";
import { globFault } from "./globs.ts";
import type { Builds, Policy, Secret } from "./input.ts";
import {
  didYouMean,
  envFault,
  folderFault,
  hostArchFault,
  hostArchOf,
  MOST_TESTS,
  nameFault,
  platformOf,
  stepFolderFault,
  testNameFault,
  textFault,
} from "./names.ts";
import { openPolicy } from "./policy.ts";
import { isMailAddress, urlFault, webUrlFault } from "./urls.ts";

/** A step before it is known which shell and which limit it gets. */
export interface StepShape extends Omit<Step, "command" | "timeLimitMs"> {
  readonly command: string | readonly string[];
  readonly timeLimitMs: Ms | null;
}
export interface TestsShape extends Omit<TestsConfig, "list" | "run"> {
  readonly list: { readonly command: StepShape } | Exclude<TestsConfig["list"], { readonly command: Step }>;
  readonly run: StepShape;
}
/** A farm whose fields are each right by themselves. */
export interface FarmShape extends Omit<FarmConfig, "builders"> {
  readonly builders: readonly (Omit<BuilderConfig, "steps" | "tests"> & {
    readonly steps: readonly StepShape[];
    readonly tests: TestsShape | null;
    readonly timeLimitMs: Ms;
  })[];
}
export interface ShapeFault {
  readonly path: readonly PropertyKey[];
  readonly rule: string;
}

const DAY = 86_400_000;
const WEEK = ms(7 * DAY);
const LONGEST_COMMAND = 100_000;

/** A string that `fault` finds nothing wrong with. */
function checked(rule: string, fault: (value: string) => string | undefined): z.ZodType<string> {
  return z.string(rule).superRefine((value, context) => {
    const broken = fault(value);
    if (broken !== undefined) context.addIssue({ code: "custom", message: broken });
  });
}

function span(least: string, most: string): z.ZodType<Ms> {
  const rule = 'want a span such as "90s", "10m" or "1h30m"';
  const [low, high] = [parseDuration(least) ?? ms(0), parseDuration(most) ?? WEEK];
  return z.string(rule).transform((value, context) => {
    const read = parseDuration(value);
    if (read !== undefined && read >= low && read <= high) return read;
    context.addIssue({
      code: "custom",
      message: read === undefined ? rule : `want a span between ${least} and ${most}`,
    });
    return z.NEVER;
  });
}

function whole(least: number, most: number): z.ZodType<number> {
  const rule = `want a whole number between ${least} and ${most}`;
  return z.int(rule).min(least, rule).max(most, rule);
}

const UNITS = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };

/** Bytes, as people write them. */
function size(least: string, most: string): z.ZodType<number> {
  const rule = 'want a size such as "500MiB" or "2GiB"';
  return z.string(rule).transform((value, context) => {
    const read = bytesOf(value);
    if (read !== undefined && read >= (bytesOf(least) ?? 0) && read <= (bytesOf(most) ?? 0)) return read;
    context.addIssue({
      code: "custom",
      message: read === undefined ? rule : `want a size between ${least} and ${most}`,
    });
    return z.NEVER;
  });
}

function bytesOf(text: string): number | undefined {
  const [, number, unit] = /^(\d{1,9}(?:\.\d{1,3})?)(KiB|MiB|GiB|TiB)$/.exec(text) ?? [];
  if (number === undefined) return undefined;
  for (const [name, bytes] of Object.entries(UNITS)) if (name === unit) return Math.round(Number(number) * bytes);
  return undefined;
}

function text(lines: "one line" | "many lines"): z.ZodType<string> {
  return checked("want text", (value) => textFault(value, lines));
}

function listOf<T>(item: z.ZodType<T>, rule: string): z.ZodType<T[]> {
  return z.array(item, rule);
}

const oneLine = checked("want text", (value) =>
  value.trim() === "" ? "want text, it is empty" : textFault(value, "one line"),
);
const name = checked("want a name", nameFault);
const yesNo = z.boolean("want true or false");

/** One glob or a list of them. */
const globs = z.preprocess(
  (value) => (typeof value === "string" ? [value] : value),
  z
    .array(checked("want a name or a glob", globFault), "want a name, a glob or a list of them")
    .min(1, "want at least one name or glob")
    .refine(
      (list) => list.length === 0 || list.some((glob) => !glob.startsWith("!")),
      "want a pattern that adds something before one that takes away",
    ),
);

const env = z.preprocess(
  (value) => (value === undefined ? [] : value),
  z.unknown().transform((value, context): string[] => {
    const entries: string[] = [];
    const add = (key: PropertyKey, entry: string): void => {
      const broken = envFault(entry);
      if (broken === undefined) entries.push(entry);
      else context.addIssue({ code: "custom", message: broken, path: [key] });
    };
    if (Array.isArray(value)) {
      value.forEach((entry: unknown, i) => {
        if (typeof entry === "string") add(i, entry);
        else context.addIssue({ code: "custom", message: "want KEY=value", path: [i] });
      });
    } else if (typeof value === "object" && value !== null) {
      for (const [key, content] of Object.entries(value)) {
        if (key.includes("=")) context.addIssue({ code: "custom", message: "want a key without '='", path: [key] });
        else if (typeof content === "string") add(key, `${key}=${content}`);
        else
          context.addIssue({
            code: "custom",
            message: "want text; write numbers and booleans as strings",
            path: [key],
          });
      }
    } else context.addIssue({ code: "custom", message: 'want { KEY: "value" } or ["KEY=value"]' });
    return entries;
  }),
);

const secret = z.custom<Secret>((value) => {
  if (typeof value !== "object" || value === null) return false;
  const [entry, ...more] = Object.entries(value);
  if (entry === undefined || more.length > 0 || typeof entry[1] !== "string" || entry[1] === "") return false;
  return entry[0] === "file" || (entry[0] === "env" && /^[A-Za-z_]\w*$/.test(entry[1]));
}, 'want { env: "VARIABLE" } or { file: "PATH" }, never the secret itself');

const repo: z.ZodType<RepoConfig> = z
  .strictObject(
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
  )
  .transform(({ poll, history, ...rest }) => ({
    ...rest,
    pollMs: poll,
    history: history ?? Math.max(100, rest.depth),
  }));

const recipient = z.unknown().transform((value, context): Recipient => {
  const fault = (message: string, path: PropertyKey[] = []): never => {
    context.addIssue({ code: "custom", message, path });
    return z.NEVER;
  };
  const rule = 'want a mail address, an https:// address, or { webhook, secret } with secret: { env: "VARIABLE" }';
  if (typeof value === "string") {
    const address = value.replace(/^mailto:/i, "");
    if (isMailAddress(address)) return { kind: "mail", address };
    const broken = webUrlFault(value);
    return broken === undefined ? { kind: "webhook", url: value, secret: null } : fault(rule);
  }
  const read = z.strictObject({ webhook: z.union([z.string(), secret]), secret: secret.optional() }).safeParse(value);
  if (!read.success) return fault(rule, "secret" in Object(value) ? ["secret"] : []);
  const { webhook } = read.data;
  const broken = typeof webhook === "string" ? webUrlFault(webhook) : undefined;
  if (broken !== undefined) return fault(broken, ["webhook"]);
  return { kind: "webhook", url: webhook, secret: read.data.secret ?? null };
});

/** One recipient or a list of them. */
const recipients: z.ZodType<Recipient[]> = z.preprocess(
  (value) => (Array.isArray(value) || value === undefined ? value : [value]),
  z.array(recipient, "want a recipient or a list of them"),
);

const owner: z.ZodType<OwnerConfig> = z
  .strictObject({ name: oneLine, contact: oneLine, notify: recipients.optional() }, "want { name, contact }")
  .transform(({ notify, ...rest }) => {
    const address = rest.contact.replace(/^mailto:/i, "");
    return { ...rest, notify: notify ?? (isMailAddress(address) ? [{ kind: "mail", address }] : []) };
  });

const mailAddress = checked("want a mail address", (value) =>
  isMailAddress(value) ? undefined : "want a mail address, such as farm@example.org",
);

const mail: z.ZodType<MailConfig> = z
  .strictObject(
    {
      host: checked("want a host", (value) =>
        /^[A-Za-z0-9.:[\]-]+$/.test(value) ? undefined : "want the name or the address of a mail server",
      ),
      port: whole(1, 65_535).optional(),
      security: z.enum(["tls", "starttls", "none"], 'want "tls", "starttls" or "none"').default("starttls"),
      user: oneLine.nullable().default(null),
      password: secret.nullable().default(null),
      from: mailAddress,
      caFile: oneLine.nullable().default(null),
    },
    "want { host, from }",
  )
  .transform(({ port, ...rest }) => ({ ...rest, port: port ?? { tls: 465, starttls: 587, none: 25 }[rest.security] }));

const notify: z.ZodType<NotifyConfig> = z.strictObject(
  { operators: recipients.default([]), mail: mail.nullable().default(null) },
  "want { operators, mail }",
);

/** A span in days, or as everywhere else. */
function keep(days: number): z.ZodType<Ms> {
  const rule = 'want a span between 1h and 10000d, such as "30d" or "12h"';
  return z
    .string(rule)
    .transform((value, context) => {
      const inDays = /^(\d{1,5})d$/.exec(value)?.[1];
      const read = inDays === undefined ? parseDuration(value) : ms(Number(inDays) * DAY);
      if (read !== undefined && read >= 3_600_000 && read <= 10_000 * DAY) return read;
      context.addIssue({ code: "custom", message: rule });
      return z.NEVER;
    })
    .default(ms(days * DAY));
}

const retention: z.ZodType<RetentionConfig> = z
  .strictObject(
    {
      greenLogs: keep(30),
      logs: keep(90),
      builds: keep(365),
      sessions: keep(180),
      audit: keep(730),
      notices: keep(30),
    },
    "want { greenLogs, logs, builds, sessions, audit, notices }",
  )
  .transform((given, context) => {
    const add = (field: string, message: string) => context.addIssue({ code: "custom", message, path: [field] });
    if (given.logs < given.greenLogs) add("logs", "want at least greenLogs: what is green loses its logs first");
    if (given.builds < given.logs) add("builds", "want at least logs: a build is not forgotten before its log");
    return {
      greenLogsMs: given.greenLogs,
      logsMs: given.logs,
      buildsMs: given.builds,
      sessionsMs: given.sessions,
      auditMs: given.audit,
      noticesMs: given.notices,
    };
  });

const host: z.ZodType<HostConfig> = z
  .strictObject(
    {
      hostType: name,
      hostArch: checked("want GOOS-GOARCH[-variant]", hostArchFault).optional(),
      expect: whole(0, 100_000).default(0),
      env,
      owners: listOf(owner, "want a list of { name, contact }").default([]),
      missingAfter: span("1m", "168h").default(ms(900_000)),
      notes: text("many lines").default(""),
      pool: z.enum(["reverse", "local"], 'want "reverse" or "local"').default("reverse"),
      trust: z.enum(["team", "community"], 'want "team" or "community"').optional(),
      sharedKey: yesNo.default(true),
      hermetic: yesNo.default(false),
    },
    "want { hostType }",
  )
  .transform(({ missingAfter, ...given }, context) => {
    const hostArch = given.hostArch ?? hostArchOf(given.hostType);
    if (hostArch === undefined) {
      const message = "want host-GOOS-GOARCH[-anything], or a hostArch beside it";
      context.addIssue({ code: "custom", message, path: ["hostType"] });
      return z.NEVER;
    }
    // Whoever lends a machine has not agreed to run what nobody has looked at.
    const trust = given.trust ?? (given.pool === "local" ? "team" : "community");
    return { ...given, hostArch, trust, missingAfterMs: missingAfter };
  });

const command = z.unknown().transform((value, context): string | string[] => {
  const fault = (message: string, path: PropertyKey[] = []): never => {
    context.addIssue({ code: "custom", message, path });
    return z.NEVER;
  };
  if (typeof value === "string") {
    if (value.trim() === "") return fault("want a command, it is empty");
    if (value.length > LONGEST_COMMAND) return fault(`want at most ${LONGEST_COMMAND} characters`);
    return value.includes("\0") ? fault("want no NUL in a command") : value;
  }
  if (!Array.isArray(value) || value.length === 0)
    return fault("want a command as text, or a program and its arguments as a list");
  for (const [i, word] of value.entries()) {
    if (typeof word !== "string") return fault("want text", [i]);
    if (word.includes("\0")) return fault("want no NUL in a command", [i]);
  }
  return value[0] === "" ? fault("want a program, it is empty", [0]) : value;
});

const step: z.ZodType<StepShape> = z.preprocess(
  (value) => (typeof value === "string" ? { command: value } : value),
  z
    .strictObject(
      {
        name: oneLine.optional(),
        command,
        dir: checked("want a folder", stepFolderFault).default(""),
        env,
        path: listOf(
          checked("want a PATH element", (value) =>
            value === "" ? "want a PATH element, it is empty" : textFault(value, "one line"),
          ),
          "want a list of PATH elements",
        ).default([]),
        timeLimit: span("1s", "168h").nullable().default(null),
        showCommand: yesNo.default(false),
        makesOther: yesNo.default(false),
      },
      "want a command or { command }",
    )
    .transform(({ timeLimit, showCommand, makesOther, ...rest }) => ({
      ...rest,
      ...(showCommand && { showCommand }),
      ...(makesOther && { makesOther }),
      name: rest.name ?? nameOf(rest.command),
      timeLimitMs: timeLimit,
    })),
);

const placeBelowWorkDir = checked("want a folder", (value) =>
  value === ""
    ? "want a folder below the work folder, it is empty"
    : folderFault(value)?.replace("the source tree", "the work folder"),
);

const source = z
  .strictObject(
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
  )
  .transform(({ dir, name: named, commit, file, text: content, url }, context): SourcePart => {
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

const testNames: z.ZodType<string[]> = z
  .array(checked("want the name of a test", testNameFault), "want names of tests")
  .min(1, "want at least one name")
  .max(MOST_TESTS, `want at most ${MOST_TESTS} names`)
  .superRefine((names, context) => {
    const first = new Map<string, number>();
    names.forEach((each, i) => {
      const before = first.get(each);
      if (before === undefined) first.set(each, i);
      else context.addIssue({ code: "custom", message: `is already list[${before}]`, path: [i] });
    });
  });

const results = z.unknown().transform((value, context): TestsShape["results"] => {
  if (value === "exit" || value === "go-test-json" || value === "markers") return value;
  const keys = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const [key, glob] = keys[0] ?? [];
  if (keys.length === 1 && key === "junit" && typeof glob === "string") {
    const broken = glob === "" ? "want a glob below the source tree, it is empty" : folderFault(glob);
    if (broken === undefined) return { junit: glob };
    context.addIssue({ code: "custom", message: broken, path: ["junit"] });
    return z.NEVER;
  }
  context.addIssue({ code: "custom", message: 'want "exit", "go-test-json", "markers" or { junit: "GLOB" }' });
  return z.NEVER;
});

/** Patterns of tests, whose names may hold what no branch's may. */
const testGlobs = z.preprocess(
  (value) => (typeof value === "string" ? [value] : value),
  z
    .array(checked("want a pattern", testNameFault), "want a pattern or a list of them")
    .min(1, "want at least one pattern"),
);

const tests: z.ZodType<TestsShape> = z
  .strictObject(
    {
      list: z.unknown().transform((value, context): TestsShape["list"] => {
        const file = typeof value === "object" && value !== null ? Reflect.get(value, "foldersWith") : undefined;
        if (file !== undefined) {
          if (typeof file === "string" && nameFault(file) === undefined) return { foldersWith: file };
          context.addIssue({ code: "custom", message: "want the name of a file", path: ["foldersWith"] });
          return z.NEVER;
        }
        const read = Array.isArray(value) ? testNames.safeParse(value) : step.safeParse(value);
        if (!read.success) {
          for (const { path, rule } of faultsOf(read.error, "builders tests list")) {
            context.addIssue({ code: "custom", message: rule, path: [...path] });
          }
          return z.NEVER;
        }
        return Array.isArray(read.data) ? { names: read.data } : { command: read.data };
      }),
      run: step,
      only: testGlobs.exactOptional(),
      alone: testGlobs.exactOptional(),
      dialect: z.enum(["go-dist", "go-test"], 'want "go-dist" or "go-test"').exactOptional(),
      argsOn: z
        .strictObject({ branches: globs, args: listOf(oneLine, "want a list of arguments") }, "want { branches, args }")
        .optional(),
      names: z.enum(["args", "file", "dir"], 'want "args", "file" or "dir"').default("args"),
      results: results.default("exit"),
      groupTarget: span("100ms", "24h").default(ms(10_000)),
      unknown: span("1ms", "24h").default(ms(3_000)),
      keepGoing: yesNo.default(true),
    },
    "want { list, run }",
  )
  .transform(({ groupTarget, unknown, ...rest }) => ({ ...rest, groupTargetMs: groupTarget, unknownMs: unknown }));

/** Everything is kept, for as long as somebody may still ask for the build again. */
const snapshot: z.ZodType<SnapshotSpec> = z
  .strictObject(
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
  )
  .transform(({ exclude, remove, limit, keep }) => ({
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

/** Those that were given; nothing at all when none was. */
function limitsOf(given: { readonly [name in keyof Limits]: Ms | undefined }): { readonly limits?: Limits } {
  const limits = Object.fromEntries(Object.entries(given).filter(([, span]) => span !== undefined));
  return Object.keys(limits).length === 0 ? {} : { limits };
}

const builder = z
  .strictObject(
    {
      name,
      host: z.string("want a hostType"),
      repos: globs.nullable().default(null),
      branches: globs.nullable().default(null),
      builds: z
        .custom<Builds>((value) => typeof value === "function", "want a function (repo, branch) => boolean")
        .nullable()
        .default(null),
      steps: z
        .array(step, "want a list of steps")
        .min(1, "want at least one step")
        .max(1000, "want at most 1000 steps"),
      sources: sources.optional(),
      against: z
        .strictObject(
          { repo: name, branches: globs.default(["**"]), builtBy: name.exactOptional() },
          "want { repo, branches }",
        )
        .optional(),
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
  )
  .transform(({ timeLimit, buildTimeLimit, silenceLimit, uploadTimeLimit, minimumGoVersion, ...rest }) => ({
    ...rest,
    ...limitsOf({ buildMs: buildTimeLimit, silenceMs: silenceLimit, uploadMs: uploadTimeLimit }),
    ...platformOf(rest.name),
    minimumGoMinor: minimumGoVersion === undefined ? undefined : Number(minimumGoVersion.slice(2)),
    snapshot: rest.snapshot ?? (rest.tests === null || rest.skipSnapshot ? null : DEFAULT_SNAPSHOT),
    tryHelpers: rest.tryHelpers ?? rest.helpers,
    timeLimitMs: timeLimit,
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

const farm: z.ZodType<FarmShape> = z.strictObject(
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
  },
  "want { repos, hosts, builders }",
);

/** Which fields stand at a place, to guess what a misspelt one was meant to be. */
const FIELDS: readonly (readonly [place: RegExp, fields: string])[] = [
  [/^$/, "repos hosts builders policy publicUrl notify retention"],
  [/^notify$/, "operators mail"],
  [/^notify mail$/, "host port security user password from caFile"],
  [/^retention$/, "greenLogs logs builds sessions audit notices"],
  [/^repos$/, "name url branches releaseBranches poll depth history webhook token tokenUser"],
  [/^hosts$/, "hostType hostArch expect missingAfter env owners notes pool trust sharedKey hermetic"],
  [/^hosts owners$/, "name contact notify"],
  [
    /^builders$/,
    "name host repos branches builds steps sources against env baseEnv needs flakyNet minimumGoVersion knownIssues notes superseded tryOnly tests snapshot skipSnapshot stopAfterMake compileOnly helpers tryHelpers timeLimit buildTimeLimit silenceLimit uploadTimeLimit",
  ],
  [/^builders (steps|tests list|tests run)$/, "name command dir env path timeLimit showCommand makesOther"],
  [/^builders against$/, "repo branches builtBy"],
  [/^builders tests argsOn$/, "branches args"],
  [/^builders sources$/, "dir name commit file text url"],
  [/^builders tests$/, "list only alone dialect argsOn run names results groupTarget unknown keepGoing"],
  [/^builders snapshot$/, "exclude remove limit keep"],
];

export function readShape(input: unknown): { readonly farm: FarmShape } | { readonly faults: readonly ShapeFault[] } {
  const read = farm.safeParse(input);
  return read.success ? { farm: read.data } : { faults: faultsOf(read.error, "") };
}

/** What `error` says; `above` is where in the farm its paths begin, as in FIELDS. */
function faultsOf(error: z.ZodError, above: string): ShapeFault[] {
  const faults: ShapeFault[] = [];
  for (const issue of error.issues) {
    if (issue.code !== "unrecognized_keys") {
      faults.push({ path: issue.path, rule: issue.message });
      continue;
    }
    const place = [above, ...issue.path.filter((key) => typeof key === "string")].filter(Boolean).join(" ");
    const known = FIELDS.find(([at]) => at.test(place))?.[1].split(" ") ?? [];
    for (const key of issue.keys)
      faults.push({ path: [...issue.path, key], rule: `there is no such field${didYouMean(key, known)}` });
  }
  return faults;
}

const LONGEST_STEP_NAME = 60;

/** What a page calls a step that has no name: the first line of its command. */
function nameOf(command: string | readonly string[]): string {
  const whole = typeof command === "string" ? command : command.join(" ");
  const line = (whole.split("\n").find((l) => l.trim() !== "") ?? "").replace(/\p{C}/gu, " ").trim().toWellFormed();
  return line.length > LONGEST_STEP_NAME ? `${line.slice(0, LONGEST_STEP_NAME - 1).toWellFormed()}…` : line;
}
