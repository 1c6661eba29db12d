/** The shape of a step: a command, where it runs, and how long it may take. */
import * as z from "zod";
import type { Step } from "../../farm/build.ts";
import type { Ms } from "../../farm/ids.ts";
import { stepFolderFault, textFault } from "../names.ts";
import { fields } from "./faults.ts";
import { checked, env, listOf, oneLine, span, yesNo } from "./values.ts";

/** A step that has not got its shell and its time limit yet. */
export interface StepShape extends Omit<Step, "command" | "timeLimitMs"> {
  readonly command: string | readonly string[];
  readonly timeLimitMs: Ms | null;
}
const LONGEST_COMMAND = 100_000;

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

export const step: z.ZodType<StepShape> = z.preprocess(
  (value) => (typeof value === "string" ? { command: value } : value),
  fields(
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
  ).transform(({ timeLimit, showCommand, makesOther, ...rest }) => ({
    ...rest,
    ...(showCommand && { showCommand }),
    ...(makesOther && { makesOther }),
    name: rest.name ?? nameOf(rest.command),
    timeLimitMs: timeLimit,
  })),
);

const LONGEST_STEP_NAME = 60;

/** What a page calls a step that has no name: the first line of its command. */
function nameOf(command: string | readonly string[]): string {
  const whole = typeof command === "string" ? command : command.join(" ");
  const line = (whole.split("\n").find((l) => l.trim() !== "") ?? "").replace(/\p{C}/gu, " ").trim().toWellFormed();
  return line.length > LONGEST_STEP_NAME ? `${line.slice(0, LONGEST_STEP_NAME - 1).toWellFormed()}…` : line;
}
