/** What every action has in common: whether whoever asks may, and how it is answered. */
import { FarmError } from "../farm/errors.ts";
import { type Ctx, json, wantsJson } from "./http.ts";
import type { Operator } from "./operator.ts";

export interface Done {
  readonly message: string;
  /** Where a browser goes; left out: back to the page with the button. */
  readonly to?: string;
}

/** Does `work` if whoever asks may, and answers with `done`, or by going to `to`. */
export type Act = (c: Ctx, to: string, work: () => Promise<Done>) => Promise<Response>;

export function acting(operator: Operator): Act {
  return async (c, to, work) => {
    mustBeOperator(operator, c);
    const done = await work();
    return wantsJson(c) ? json(c, 200, done) : c.redirect(done.to ?? to, 303);
  };
}

/** Throws FarmError saying why whoever asks may not change anything. */
export function mustBeOperator(operator: Operator, c: Ctx): void {
  const may = operator.mayAct(c);
  if (may === "no-login")
    throw new FarmError("unauthenticated", "Cannot do this without the operator token: log in, or send it as a bearer");
  if (may === "foreign")
    throw new FarmError("forbidden", "Cannot do this for another site: use the button of the farm's own page");
}
