/**
 * The metadata server that the original gomote command takes its token from (people/original-client.ts).
 *
 *   GET /computeMetadata/v1/project/project-id
 *   GET /computeMetadata/v1/instance/service-accounts/default/identity
 *                                              the token that was sent as the password, if it is valid
 *
 * There is no rate limit: no token can be guessed, and everybody may come from one address, through a tunnel. The
 * answer holds nothing that the request did not bring, so it gives nothing away. Only programs are answered: a browser
 * does not send `Metadata-Flavor`. All other paths of such a server are 404.
 */
import { Hono } from "hono";
import { METADATA_PROJECT } from "../people/original-client.ts";
import type { People } from "../people/people.ts";
import { type Ctx, type Env, text } from "./http.ts";

const ROOT = "/computeMetadata/v1";
const FLAVOR = "Metadata-Flavor";

export function metadataRoutes(people: People): Hono<Env> {
  const routes = new Hono<Env>();
  const answer = (c: Ctx, status: number, body: string) =>
    text(c, status, body, { [FLAVOR]: "Google", "Cache-Control": "no-store" });
  routes.use(`${ROOT}/*`, async (c, next) => {
    if (c.req.header(FLAVOR) === "Google") return next();
    return answer(c, 403, `This is for programs: they send ${FLAVOR}: Google.\n`);
  });
  // No line feed: the whole body is the value.
  routes.get(`${ROOT}/project/project-id`, (c) => answer(c, 200, METADATA_PROJECT));
  routes.get(`${ROOT}/instance/service-accounts/default/identity`, async (c) => {
    const token = passwordOf(c);
    if (token === undefined)
      return answer(c, 401, "Give a token in GCE_METADATA_HOST: coordinator -gomote-env EMAIL prints how.\n");
    const found = await people.check(token);
    if (found.ok) return answer(c, 200, token);
    return answer(c, 401, `This token does not let you in: ${found.reason}\n`);
  });
  routes.all(`${ROOT}/*`, (c) => answer(c, 404, `There is nothing at ${c.req.path}.\n`));
  return routes;
}

function passwordOf(c: Ctx): string | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/=]{1,1000})$/i.exec(c.req.header("authorization") ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const pair = Buffer.from(encoded, "base64").toString("utf8");
  return pair.slice(pair.indexOf(":") + 1);
}
