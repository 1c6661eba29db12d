/**
 * Lets in programs that have no browser (people/devices.ts), with the messages of RFC 8628:
 *
 *   POST /device/code  client_id, name            answers with the code to show, and the code to ask /token with
 *   POST /token        grant_type, device_code    answers with the token once a person has agreed, else with an error
 *   GET  /device       user_code                  the page on which a person who is signed in sees which program asks
 *   POST /device       user_code, answer          that person's answer
 *
 * The original gomote command speaks nearly the same protocol with its own login service. A proxy can lead it here
 * (docs/gomote-service.md). It then finds what it looks for: `verification_url`, 428 while nobody has answered, and a
 * token for its refresh token, which is that same token.
 */
import { Hono } from "hono";
import type { Clock } from "../farm/clock.ts";
import { minutes } from "../farm/ids.ts";
import type { Devices, Polled } from "../people/devices.ts";
import type { People } from "../people/people.ts";
import type { AskingDevice } from "../store/logins.ts";
import type { DeviceData } from "../ui/pages/device.tsx";
import { personOf } from "./acting.ts";
import { type AttemptLimits, Attempts } from "./attempts.ts";
import { addressOf, type Ctx, type Env, formOf, json } from "./http.ts";
import type { Identities } from "./identity.ts";

const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const ASKED: AttemptLimits = { each: 10, all: 200, within: minutes(1) };
const ORIGINAL_CLIENT = /\.apps\.googleusercontent\.com$/;

export interface DeviceRoutesDeps {
  readonly people: People;
  readonly devices: Devices;
  readonly identities: Identities;
  /** Counts wrong codes and tokens, by the address that sent them. */
  readonly wrong: Attempts;
  readonly clock: Clock;
  /** The address under which people reach the pages. Null: the address that the request was sent to. */
  readonly publicUrl: () => string | null;
  readonly page: (c: Ctx, status: number, data: DeviceData) => Promise<Response>;
}

export function deviceRoutes(deps: DeviceRoutesDeps): Hono<Env> {
  const { people, devices, identities, wrong, clock } = deps;
  const routes = new Hono<Env>();
  const asked = new Attempts(clock, ASKED);
  const answer = (c: Ctx, status: number, value: object) => json(c, status, value, { "Cache-Control": "no-store" });
  const tooMany = (c: Ctx, wait: number) => {
    c.header("Retry-After", String(wait));
    return answer(c, 429, { error: "slow_down", error_description: `Too many requests. Try again in ${wait} s.` });
  };

  routes.post("/device/code", async (c) => {
    const address = addressOf(c);
    const wait = asked.delay(address);
    if (wait > 0) return tooMany(c, wait);
    asked.count(address);
    const form = await formOf(c);
    const client = form("client_id");
    const program = ORIGINAL_CLIENT.test(client) ? "the original gomote" : client;
    const { deviceCode, userCode, expiresInMs, intervalMs } = await devices.ask(
      form("name") === "" ? program : `${program} on ${form("name")}`,
      address,
    );
    const page = `${deps.publicUrl() ?? new URL(c.req.url).origin}/device`;
    return answer(c, 200, {
      device_code: deviceCode,
      user_code: userCode,
      verification_uri: page,
      verification_url: page,
      verification_uri_complete: `${page}?user_code=${userCode}`,
      expires_in: expiresInMs / 1000,
      interval: intervalMs / 1000,
    });
  });

  routes.post("/token", async (c) => {
    const form = await formOf(c);
    const grant = form("grant_type");
    const address = addressOf(c);
    if (grant !== DEVICE_GRANT && grant !== "refresh_token")
      return answer(c, 400, {
        error: "unsupported_grant_type",
        error_description: `Cannot grant ${JSON.stringify(grant.slice(0, 100))}: want ${DEVICE_GRANT}`,
      });
    const wait = wrong.delay(address);
    if (wait > 0) return tooMany(c, wait);
    const polled =
      grant === DEVICE_GRANT ? await devices.poll(form("device_code")) : await refreshed(people, form("refresh_token"));
    if (!("error" in polled)) {
      const { token, expiresAt } = polled;
      const expires_in = Math.max(0, Math.floor((expiresAt - clock.now()) / 1000));
      return answer(c, 200, {
        access_token: token,
        token_type: "Bearer",
        expires_in,
        ...(ORIGINAL_CLIENT.test(form("client_id")) && { refresh_token: token, id_token: token }),
      });
    }
    const { error, reason } = polled;
    if (error === "invalid_grant") wrong.count(address);
    const waits = error === "authorization_pending" && ORIGINAL_CLIENT.test(form("client_id"));
    return answer(c, waits ? 428 : 400, { error, error_description: reason });
  });

  routes.get("/device", async (c) => {
    const typed = c.req.query("user_code") ?? "";
    const { who } = await identities.of(c);
    if (who.kind === "nobody")
      return c.redirect(
        `/login?${new URLSearchParams({ back: `/device?${new URLSearchParams({ user_code: typed })}` })}`,
        303,
      );
    if (who.kind === "operator") return deps.page(c, 403, { state: "operator" });
    if (typed === "") return deps.page(c, 200, { state: "type", problem: null });
    const wait = wrong.delay(who.person.id);
    if (wait > 0) return deps.page(c, 429, { state: "type", problem: `Too many wrong codes. Try again in ${wait} s.` });
    const device = await devices.asking(typed);
    if (device) return deps.page(c, 200, { state: "asks", ...shown(device) });
    wrong.count(who.person.id);
    return deps.page(c, 404, {
      state: "type",
      problem:
        "Nothing asks with this code: it was answered, or it is too old. Look again at the program that showed it.",
    });
  });

  routes.post("/device", async (c) => {
    const { person, until } = await personOf(identities, c);
    const form = await formOf(c);
    const wait = wrong.delay(person.id);
    if (wait > 0) return deps.page(c, 429, { state: "type", problem: `Too many wrong codes. Try again in ${wait} s.` });
    const device = await devices.asking(form("user_code"));
    if (!device) wrong.count(person.id);
    const allowed = form("answer") === "allow";
    const answered = await devices.answer(form("user_code"), person, { allowed, until });
    return deps.page(c, 200, { state: allowed ? "allowed" : "denied", ...shown(answered) });
  });
  return routes;
}

/**
 * Answers a refresh token with a token. The refresh token is itself a token of a user, so the answer is that same token
 * while it is valid. Any other is answered with `invalid_grant`, be it unknown, revoked or too old: only then do
 * programs log in again (RFC 6749, 5.2).
 */
async function refreshed(people: People, token: string): Promise<Polled> {
  const found = await people.check(token);
  return found.ok ? { token, expiresAt: found.token.expiresAt } : { error: "invalid_grant", reason: found.reason };
}

function shown({ userCode, program, address, askedAt }: AskingDevice) {
  return { userCode, program, address, askedAt };
}
