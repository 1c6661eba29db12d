/** The shape of `login`: where people log in. */
import * as z from "zod";
import { ROLES } from "../../farm/person.ts";
import type { LoginConfig } from "../effective.ts";
import { isMailAddress, keepsSecret, webUrlFault } from "../urls.ts";
import { fields } from "./faults.ts";
import { checked, oneLine, secret } from "./values.ts";

const allowed = checked("want a mail address or *@DOMAIN", (value) =>
  isMailAddress(value.replace(/^\*@/, "anybody@"))
    ? undefined
    : 'want a mail address, such as "alice@example.org", or all of a domain, such as "*@example.org"',
);

const words: z.ZodType<string[]> = z.preprocess(
  (value) => (typeof value === "string" ? [value] : value),
  z.array(oneLine, "want text or a list of it").min(1, "want at least one value"),
);

const rule = z.union(
  [z.literal("everybody"), z.strictObject({ claim: oneLine, is: words })],
  'want "everybody", or { claim, is } such as { claim: "groups", is: "farm-team" }',
);

export const login: z.ZodType<LoginConfig> = fields(
  {
    issuer: checked("want an address", (value) => {
      const fault = webUrlFault(value);
      if (fault !== undefined) return fault;
      return keepsSecret(value)
        ? undefined
        : "want an https:// address: whoever can change it on the way logs in as anybody";
    }),
    clientId: oneLine,
    clientSecret: secret,
    name: oneLine.optional(),
    allow: z.array(allowed, 'want a list, such as ["*@example.org"]').default([]),
    roles: fields(
      Object.fromEntries(ROLES.map((role) => [role, rule.optional()])),
      'want { member, team, operator }, such as { member: "everybody" }',
    ).default({ member: "everybody" }),
  },
  "want { issuer, clientId, clientSecret }",
).transform(({ name, roles, ...rest }) => ({
  ...rest,
  name: name ?? rest.issuer.replace(/^https?:\/\/([^/?#]*).*$/, "$1"),
  roles: ROLES.flatMap((role) => {
    const given = roles[role];
    if (given === undefined) return [];
    return [given === "everybody" ? { role, claim: null, is: [] } : { role, claim: given.claim, is: given.is }];
  }),
}));
