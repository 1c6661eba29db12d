/** The shape of a builder's tests: the list, what runs a group, and how the result of each test is found. */
import * as z from "zod";
import type { Step } from "../../farm/build.ts";
import { ms } from "../../farm/ids.ts";
import type { TestsConfig } from "../effective.ts";
import { folderFault, MOST_TEST_NAMES, nameFault, testNameFault } from "../names.ts";
import { faultsOf, fields } from "./faults.ts";
import { type StepShape, step } from "./step.ts";
import { checked, globs, listOf, oneLine, span, yesNo } from "./values.ts";

export interface TestsShape extends Omit<TestsConfig, "list" | "run"> {
  readonly list: { readonly command: StepShape } | Exclude<TestsConfig["list"], { readonly command: Step }>;
  readonly run: StepShape;
}

const testNames: z.ZodType<string[]> = z
  .array(checked("want the name of a test", testNameFault), "want names of tests")
  .min(1, "want at least one name")
  .max(MOST_TEST_NAMES, `want at most ${MOST_TEST_NAMES} names`)
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

/** Patterns for names of tests, which may contain characters that no branch may. */
const testGlobs = z.preprocess(
  (value) => (typeof value === "string" ? [value] : value),
  z
    .array(checked("want a pattern", testNameFault), "want a pattern or a list of them")
    .min(1, "want at least one pattern"),
);

export const tests: z.ZodType<TestsShape> = fields(
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
        for (const { path, rule } of faultsOf(read.error)) {
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
    argsOn: fields(
      { branches: globs, args: listOf(oneLine, "want a list of arguments") },
      "want { branches, args }",
    ).optional(),
    names: z.enum(["args", "file", "dir"], 'want "args", "file" or "dir"').default("args"),
    results: results.default("exit"),
    groupTarget: span("100ms", "24h").default(ms(10_000)),
    unknown: span("1ms", "24h").default(ms(3_000)),
    keepGoing: yesNo.default(true),
  },
  "want { list, run }",
).transform(({ groupTarget, unknown, ...rest }) => ({ ...rest, groupTargetMs: groupTarget, unknownMs: unknown }));
