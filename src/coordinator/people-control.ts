/**
 * `coordinator -add-user alice@example.org` and the like: people and their tokens from the command line. The running
 * coordinator does the work (web/people-routes.ts). The result for a script, a token or a list, is on stdout. What a
 * person should know besides is the `note`.
 */
import * as z from "zod";
import { formatDuration } from "../farm/flags.ts";
import { type EpochMs, epochMs } from "../farm/ids.ts";
import type { PeopleCommand } from "./people-flags.ts";
import { type Ask, runningFarm, said } from "./remote-control.ts";
import { minute, table } from "./table.ts";

export interface PeopleAnswer {
  /** The result for stdout, which ends in a line feed. */
  readonly text: string;
  readonly note?: string;
}

const instant = z.number().transform(epochMs);
const peopleShape = z.object({
  people: z.array(
    z.object({
      email: z.string(),
      roles: z.array(z.string()),
      createdAt: instant,
      tokens: z.number(),
      lastUsedAt: instant.nullable(),
    }),
  ),
});
const tokensShape = z.object({
  tokens: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      begins: z.string(),
      madeAt: instant,
      expiresAt: instant,
      revokedAt: instant.nullable(),
      lastUsedAt: instant.nullable(),
    }),
  ),
});
const madeShape = z.object({
  id: z.string(),
  email: z.string(),
  token: z.string(),
  expiresAt: instant,
  original: z.string(),
});

/** Carries out `command` on the farm of `data`. Throws a FarmError that says why it cannot be done. */
export async function controlPeople(
  data: string,
  secrets: string,
  command: PeopleCommand,
  now: EpochMs,
): Promise<PeopleAnswer> {
  const ask = await runningFarm(data, secrets, command.do.replace("-", " "));
  switch (command.do) {
    case "list-users":
      return { text: userList(await ask("/people")) };
    case "list-tokens":
      return { text: tokenList(await ask(`/people/tokens?${new URLSearchParams({ email: command.email })}`), now) };
    case "new-token":
    case "gomote-env": {
      const { email, name, expires } = command;
      const body = { email, name, expires: formatDuration(expires) };
      const made = madeShape.parse(JSON.parse(await ask("/people/token", body)));
      return {
        text: command.do === "gomote-env" ? made.original : `${made.token}\n`,
        note: `${made.id} of ${made.email}, good until ${minute(made.expiresAt, "")} UTC. It is not shown again; -revoke-token ${made.id} ends it.\n`,
      };
    }
    case "add-user":
      return done(ask, "/people", { email: command.email, roles: command.roles });
    case "set-roles":
      return done(ask, "/people/roles", { email: command.email, roles: command.roles });
    case "remove-user":
      return done(ask, "/people/remove", { email: command.email });
    case "revoke-token":
      return done(ask, `/tokens/${encodeURIComponent(command.id)}/revoke`, {});
  }
}

async function done(ask: Ask, path: string, body: Record<string, string>): Promise<PeopleAnswer> {
  return { text: `${said(await ask(path, body)) ?? "done"}\n` };
}

function userList(answer: string): string {
  const { people } = peopleShape.parse(JSON.parse(answer));
  if (people.length === 0) return "There are no users yet. -add-user EMAIL adds one.\n";
  return table([
    ["EMAIL", "ROLES", "SINCE", "TOKENS", "LAST USED"],
    ...people.map(({ email, roles, createdAt, tokens, lastUsedAt }) => [
      email,
      roles.join(",") || "none",
      minute(createdAt, ""),
      String(tokens),
      minute(lastUsedAt, "never"),
    ]),
  ]);
}

function tokenList(answer: string, now: EpochMs): string {
  const { tokens } = tokensShape.parse(JSON.parse(answer));
  if (tokens.length === 0) return "There are no tokens yet. -new-token EMAIL makes one.\n";
  return table([
    ["ID", "BEGINS", "NAME", "MADE", "EXPIRES", "LAST USED", "STATE"],
    ...tokens.map(({ id, begins, name, madeAt, expiresAt, lastUsedAt, revokedAt }) => [
      id,
      begins,
      name,
      minute(madeAt, ""),
      minute(expiresAt, ""),
      minute(lastUsedAt, "never"),
      revokedAt !== null ? `revoked ${minute(revokedAt, "")}` : expiresAt <= now ? "expired" : "good",
    ]),
  ]);
}
