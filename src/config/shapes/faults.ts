/** What zod found, as sentences at places; a misspelt field is asked whether it was meant to be another. */
import type * as z from "zod";
import { didYouMean } from "../names.ts";

export interface ShapeFault {
  readonly path: readonly PropertyKey[];
  readonly rule: string;
}

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

/** What `error` says; `above` is where in the farm its paths begin, as in FIELDS. */
export function faultsOf(error: z.ZodError, above: string): ShapeFault[] {
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
