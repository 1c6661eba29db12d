/** The kinds of values that fields of a farm hold, each with the sentence for a person who wrote something else. */
import * as z from "zod";
import { parseDuration } from "../../farm/flags.ts";
import { type Ms, ms } from "../../farm/ids.ts";
import { globFault } from "../globs.ts";
import type { Secret } from "../input.ts";
import { envFault, nameFault, textFault } from "../names.ts";

const DAY = 86_400_000;
export const WEEK: Ms = days(7);

export function days(count: number): Ms {
  return ms(count * DAY);
}

/** A string in which `fault` finds nothing wrong. */
export function checked(rule: string, fault: (value: string) => string | undefined): z.ZodType<string> {
  return z.string(rule).superRefine((value, context) => {
    const broken = fault(value);
    if (broken !== undefined) context.addIssue({ code: "custom", message: broken });
  });
}

export function span(least: string, most: string): z.ZodType<Ms> {
  const rule = 'want a span such as "90s", "1h30m" or "30d"';
  const [low, high] = [spanOf(least) ?? ms(0), spanOf(most) ?? WEEK];
  return z.string(rule).transform((value, context) => {
    const read = spanOf(value);
    if (read !== undefined && read >= low && read <= high) return read;
    context.addIssue({
      code: "custom",
      message: read === undefined ? rule : `want a span between ${least} and ${most}`,
    });
    return z.NEVER;
  });
}

/** A span as programs read it in flags, or in days. */
function spanOf(text: string): Ms | undefined {
  const count = /^(\d{1,5})d$/.exec(text)?.[1];
  return count === undefined ? parseDuration(text) : days(Number(count));
}

export function whole(least: number, most: number): z.ZodType<number> {
  const rule = `want a whole number between ${least} and ${most}`;
  return z.int(rule).min(least, rule).max(most, rule);
}

export const UNITS: { readonly [name in "KiB" | "MiB" | "GiB" | "TiB"]: number } = {
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** A number of bytes, as people write it. */
export function size(least: string, most: string): z.ZodType<number> {
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

export function text(lines: "one line" | "many lines"): z.ZodType<string> {
  return checked("want text", (value) => textFault(value, lines));
}

export function listOf<T>(item: z.ZodType<T>, rule: string): z.ZodType<T[]> {
  return z.array(item, rule);
}

export const oneLine: z.ZodType<string> = checked("want text", (value) =>
  value.trim() === "" ? "want text, it is empty" : textFault(value, "one line"),
);
export const name: z.ZodType<string> = checked("want a name", nameFault);
export const yesNo: z.ZodType<boolean> = z.boolean("want true or false");

/** One glob or a list of them. */
export const globs: z.ZodType<string[]> = z.preprocess(
  (value) => (typeof value === "string" ? [value] : value),
  z
    .array(checked("want a name or a glob", globFault), "want a name, a glob or a list of them")
    .min(1, "want at least one name or glob")
    .refine(
      (list) => list.length === 0 || list.some((glob) => !glob.startsWith("!")),
      "want a pattern that adds something before one that takes away",
    ),
);

export const env: z.ZodType<string[]> = z.preprocess(
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

export const secret: z.ZodType<Secret> = z.custom<Secret>((value) => {
  if (typeof value !== "object" || value === null) return false;
  const [entry, ...more] = Object.entries(value);
  if (entry === undefined || more.length > 0 || typeof entry[1] !== "string" || entry[1] === "") return false;
  return entry[0] === "file" || (entry[0] === "env" && /^[A-Za-z_]\w*$/.test(entry[1]));
}, 'want { env: "VARIABLE" } or { file: "PATH" }, never the secret itself');
