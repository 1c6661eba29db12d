/**
 * `/me`: the person who is logged in, and the tokens of their programs. The answer to the form shows a new token once,
 * and nothing else does.
 */
import { Hono } from "hono";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, ms } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { originalClientSetup } from "../people/original-client.ts";
import { type MadeToken, type People, TOKEN_KEPT } from "../people/people.ts";
import type { MeData } from "../ui/pages/me.tsx";
import { personOf } from "./acting.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, formOf, json, wantsJson } from "./http.ts";
import type { Identities } from "./identity.ts";
import { madeLine, tokenLine } from "./pages/people.ts";
import { reachedAt, reachedFrom } from "./reached.ts";

const DAY = 86_400_000;

export interface MeRoutesDeps {
  readonly people: People;
  readonly identities: Identities;
  readonly clock: Clock;
  readonly config: WebDeps["config"];
  /**
   * The HOST:PORT of the TLS port. `httpPort` is the port of plain HTTP on loopback, `sshPort` that of the ssh gateway,
   * if there is one.
   */
  readonly dialAddress: () => string;
  readonly httpPort: () => number;
  readonly sshPort: () => number | undefined;
  readonly page: (c: Ctx, data: MeData) => Promise<Response>;
}

export function meRoutes(deps: MeRoutesDeps): Hono<Env> {
  const { people, identities, clock } = deps;
  const routes = new Hono<Env>();

  const dataOf = async (
    c: Ctx,
    person: Person,
    until: EpochMs | null,
    made: MadeToken | undefined,
  ): Promise<MeData> => {
    const now = clock.now();
    const tokens = await people.tokens(person);
    return {
      kind: "person",
      email: person.email,
      roles: person.roles,
      until,
      server: reachedAt(c, deps),
      tokens: tokens.map((token) => tokenLine(token, now)),
      made: made ? madeLine(made, setupOf(c, deps, made)) : null,
    };
  };

  routes.get("/me", async (c) => {
    const { who, until } = await identities.of(c);
    if (who.kind === "nobody") return c.redirect("/login?back=/me", 303);
    if (who.kind === "operator") return deps.page(c, { kind: "operator" });
    return deps.page(c, await dataOf(c, who.person, until, undefined));
  });

  routes.get("/me/tokens", (c) => c.redirect(`/me${new URL(c.req.url).search}`, 303));
  routes.post("/me/tokens", async (c) => {
    const { person, until } = await personOf(identities, c);
    const form = await formOf(c);
    const asked = daysOf(form("days"));
    const span = until === null ? asked : ms(Math.min(asked, until - clock.now()));
    const made = await people.newToken(person, form("name"), span, person.email);
    c.header("Cache-Control", "no-store");
    if (wantsJson(c))
      return json(
        c,
        200,
        { id: made.id, token: made.token, expiresAt: made.expiresAt },
        { "Cache-Control": "no-store" },
      );
    return deps.page(c, await dataOf(c, person, until, made));
  });

  routes.post("/me/tokens/:id/revoke", async (c) => {
    const { person } = await personOf(identities, c);
    const id = c.req.param("id");
    await people.revokeToken(id, person, person.email);
    return wantsJson(c) ? json(c, 200, { message: `token ${id} is revoked` }) : c.redirect("/me", 303);
  });
  return routes;
}

/** How long a token is to be valid, from the number of days in a form. */
export function daysOf(text: string): Ms {
  const days = text === "" ? TOKEN_KEPT / DAY : Number(text);
  if (Number.isInteger(days) && days >= 1) return ms(days * DAY);
  throw new FarmError(
    "bad-request",
    `Cannot make a token for ${JSON.stringify(text.slice(0, 20))} days: want a whole number`,
  );
}

/**
 * The settings with which the original command uses a new token. They name the coordinator's own ports, at which a
 * tunnel ends, not the port that the browser uses.
 */
export function setupOf(
  c: Ctx,
  deps: Pick<MeRoutesDeps, "config" | "dialAddress" | "httpPort" | "sshPort">,
  made: MadeToken,
): string {
  const host = reachedFrom(c, deps);
  return originalClientSetup({
    person: made.person,
    token: made.token,
    httpPort: deps.httpPort(),
    tlsPort: Number(deps.dialAddress().replace(/^.*:/, "")),
    sshPort: deps.sshPort(),
    host: host?.replace(/[[\]]/g, "") ?? "THE-COORDINATORS-COMPUTER",
  });
}
