/** Objects with a fixed set of fields, and zod's findings as sentences with their places. */
import * as z from "zod";
import { didYouMean } from "../../farm/did-you-mean.ts";

export interface ShapeFault {
  readonly path: readonly PropertyKey[];
  readonly rule: string;
}

/**
 * An object with these fields and no other. Reports each unknown field in a line, with the field that was probably
 * meant.
 */
export function fields<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
  rule: string,
): z.ZodObject<Shape, z.core.$strict> {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => `there is no such field${didYouMean(key, known)}`).join("\n")
        : rule,
  });
}

export function faultsOf(error: z.ZodError): ShapeFault[] {
  return error.issues.flatMap((issue) => {
    if (issue.code !== "unrecognized_keys") return [{ path: issue.path, rule: issue.message }];
    const rules = issue.message.split("\n");
    return issue.keys.map((key, i) => ({ path: [...issue.path, key], rule: rules[i] ?? "" }));
  });
}
