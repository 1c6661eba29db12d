/** The shape of two parts: who is told of trouble and how, and how long things are kept. */
import * as z from "zod";
import type { MailConfig, NotifyConfig, OwnerConfig, Recipient, RetentionConfig } from "../effective.ts";
import { isMailAddress, webUrlFault } from "../urls.ts";
import { fields } from "./faults.ts";
import { checked, days, oneLine, secret, span, whole } from "./values.ts";

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

export const owner: z.ZodType<OwnerConfig> = fields(
  { name: oneLine, contact: oneLine, notify: recipients.optional() },
  "want { name, contact }",
).transform(({ notify, ...rest }) => {
  const address = rest.contact.replace(/^mailto:/i, "");
  return { ...rest, notify: notify ?? (isMailAddress(address) ? [{ kind: "mail", address }] : []) };
});

const mailAddress = checked("want a mail address", (value) =>
  isMailAddress(value) ? undefined : "want a mail address, such as farm@example.org",
);

const mail: z.ZodType<MailConfig> = fields(
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
).transform(({ port, ...rest }) => ({ ...rest, port: port ?? { tls: 465, starttls: 587, none: 25 }[rest.security] }));

export const notify: z.ZodType<NotifyConfig> = fields(
  { operators: recipients.default([]), mail: mail.nullable().default(null) },
  "want { operators, mail }",
);

const kept = span("1h", "10000d");

export const retention: z.ZodType<RetentionConfig> = fields(
  {
    greenLogs: kept.default(days(30)),
    logs: kept.default(days(90)),
    builds: kept.default(days(365)),
    gomotes: kept.default(days(180)),
    sessions: kept.default(days(180)),
    audit: kept.default(days(730)),
    notices: kept.default(days(30)),
  },
  "want { greenLogs, logs, builds, gomotes, sessions, audit, notices }",
).transform((given, context) => {
  const add = (field: string, message: string) => context.addIssue({ code: "custom", message, path: [field] });
  if (given.logs < given.greenLogs) add("logs", "want at least greenLogs: what is green loses its logs first");
  if (given.builds < given.logs) add("builds", "want at least logs: a build is not forgotten before its log");
  return {
    greenLogsMs: given.greenLogs,
    logsMs: given.logs,
    buildsMs: given.builds,
    gomotesMs: given.gomotes,
    sessionsMs: given.sessions,
    auditMs: given.audit,
    noticesMs: given.notices,
  };
});
