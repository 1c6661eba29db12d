/** Objects whose fields are known, and what zod found wrong as sentences at places. */
import * as z from "zod";
import { didYouMean } from "../../farm/did-you-mean.ts";

export interface ShapeFault {
  readonly path: readonly PropertyKey[];
  readonly rule: string;
}

/** An object with these fields and no other. Of each field that it does not know it says so in a line, and which one was probably meant. */
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
