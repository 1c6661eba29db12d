/**
 * Fetching a URL that a person gave, from where the coordinator stands: inside networks that the person may not be in.
 *
 * So only http and https are fetched, only from the ports of the farm's configuration, and only from public addresses
 * (public-address.ts) at which no coordinator of the farm is. A name is resolved once, and every address that it has is
 * checked. The connection goes to one of these addresses; the name is not resolved again, so that a name server that
 * changes its mind in between changes nothing. A redirect is a new URL, and is checked like the first. However a number
 * is written, URL has made it an ordinary address before the check. There are no cookies, no passwords and no proxy.
 *
 * Each hop has ANSWER_LIMIT to begin its answer, and there are at most HOPS redirects. The body has the limits of a
 * Meter.
 */
import { lookup } from "node:dns/promises";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Readable } from "node:stream";
import { connect as connectTls } from "node:tls";
import type { Clock } from "../../farm/clock.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { Meter } from "./meter.ts";
import { isPublicAddress } from "./public-address.ts";

export const ANSWER_LIMIT: Ms = seconds(15);
export const HOPS = 5;
const OK = 200;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** How the world is reached. Tests have a world of their own. */
export interface World {
  /** All addresses of a name. */
  resolve(name: string): Promise<readonly string[]>;
  connect(port: number, address: string): Socket;
  /** Addresses of the farm's coordinators. They are not part of the world, however public they are. */
  own(): Promise<readonly string[]>;
}

/**
 * The world as this computer sees it. `farm` gives the URLs of the farm's coordinators; a URL whose name cannot be
 * resolved is left out.
 */
export function worldAround(farm: () => Promise<readonly string[]>): World {
  const resolve = async (name: string) => (await lookup(name, { all: true })).map(({ address }) => address);
  return {
    resolve,
    connect: (port, host) => connectTcp({ port, host }),
    own: async () => {
      const here = Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address));
      const hosts = (await farm()).map((url) => hostOf(new URL(url)));
      const theirs = await Promise.all(hosts.map((host) => (isIP(host) ? [host] : resolve(host).catch(() => []))));
      return [...here, ...theirs.flat()];
    },
  };
}

export interface GuardedFetchOptions {
  readonly clock: Clock;
  readonly world: World;
  readonly limitBytes: number;
  readonly ports: readonly number[];
}

/**
 * The body of a 200 of `given`, to be read or destroyed. Throws FarmError: `bad-request` for anything that is not a URL
 * of the web, `forbidden` for an address or port that is not allowed, `not-found` when nothing can be had there,
 * `timed-out`.
 */
export async function guardedFetch(
  given: string,
  { clock, world, limitBytes, ports }: GuardedFetchOptions,
  signal: AbortSignal,
): Promise<Readable> {
  let url = webUrl(given);
  for (let hop = 0; hop <= HOPS; hop++) {
    if (!ports.includes(portOf(url)))
      throw new FarmError(
        "forbidden",
        `Cannot fetch ${shown(url)}: this farm fetches from ports ${ports.join(", ")} only (gomote.fetchPorts in its configuration)`,
      );
    const answer = await answerOf(url, clock, world, signal);
    const { statusCode = 0, headers } = answer;
    if (statusCode === OK)
      return metered(answer, new Meter({ clock, what: `what ${shown(url)} sends`, limitBytes }), signal);
    answer.destroy();
    if (!REDIRECTS.has(statusCode) || headers.location === undefined)
      throw new FarmError("not-found", `Cannot fetch ${shown(url)}: it answered ${statusCode}`);
    url = webUrl(headers.location, url);
  }
  throw new FarmError("not-found", `Cannot fetch ${JSON.stringify(given)}: it leads on more than ${HOPS} times`);
}

/** Throws FarmError `bad-request` unless it is an http or https URL without a password. */
export function webUrl(given: string, base?: URL): URL {
  const url = URL.parse(given, base?.href);
  const quoted = JSON.stringify(given.slice(0, 200));
  if (url === null || !["http:", "https:"].includes(url.protocol))
    throw new FarmError("bad-request", `Cannot fetch ${quoted}: want an http or https URL`);
  if (url.username !== "" || url.password !== "")
    throw new FarmError("bad-request", `Cannot fetch from ${url.host}: want a URL without a user's name or password`);
  return url;
}

function metered(answer: IncomingMessage, meter: Meter, signal: AbortSignal): Readable {
  const leave = () => meter.destroy(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  meter.once("close", () => {
    signal.removeEventListener("abort", leave);
    answer.destroy();
  });
  answer.once("error", (error) => meter.destroy(new FarmError("not-found", `It broke off: ${messageOf(error)}`)));
  return answer.pipe(meter);
}

/** The head of the answer to one request. */
async function answerOf(url: URL, clock: Clock, world: World, signal: AbortSignal): Promise<IncomingMessage> {
  const limit = new AbortController();
  const done = new AbortController();
  clock.sleep(ANSWER_LIMIT, done.signal).then(
    () =>
      limit.abort(new FarmError("timed-out", `Cannot fetch ${shown(url)}: no answer within ${ANSWER_LIMIT / 1000} s`)),
    () => {},
  );
  const either = AbortSignal.any([signal, limit.signal]);
  try {
    const addresses = await unlessAborted(publicAddresses(url, world), either);
    let failed: unknown;
    for (const address of addresses) {
      try {
        return await ask(url, world.connect(portOf(url), address), either);
      } catch (error) {
        either.throwIfAborted();
        failed = error;
      }
    }
    throw new FarmError("not-found", `Cannot fetch ${shown(url)}: ${messageOf(failed)}`, { cause: failed });
  } finally {
    done.abort();
  }
}

/**
 * The addresses of the URL's host. One that is not public is enough to refuse all: nobody mixes them with honest
 * intentions.
 */
async function publicAddresses(url: URL, world: World): Promise<readonly string[]> {
  const host = hostOf(url);
  const addresses = isIP(host) ? [host] : await world.resolve(host).catch(() => []);
  if (addresses.length === 0) throw new FarmError("not-found", `Cannot fetch ${shown(url)}: nobody knows ${host}`);
  const own = new Set(await world.own());
  // The message does not say which address it is: names of a network are its own business.
  if (!addresses.every((address) => isPublicAddress(address) && !own.has(address)))
    throw new FarmError("forbidden", `Cannot fetch ${shown(url)}: ${host} is not an address of the public internet`);
  return addresses;
}

function ask(url: URL, socket: Socket, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const secure = url.protocol === "https:";
  const host = hostOf(url);
  const servername = isIP(host) ? {} : { servername: host };
  const options = {
    createConnection: () => (secure ? connectTls({ socket, ...servername, ALPNProtocols: ["http/1.1"] }) : socket),
    host,
    port: portOf(url),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, "user-agent": "barnraiser", accept: "*/*", "accept-encoding": "identity" },
  };
  const request = secure ? requestHttps(options) : requestHttp(options);
  const leave = () => request.destroy();
  signal.addEventListener("abort", leave, { once: true });
  const settled = () => signal.removeEventListener("abort", leave);
  socket.on("error", reject);
  request.on("error", reject); // a later error ends the body
  request.once("response", resolve);
  request.end();
  return promise.finally(settled).catch((error: unknown) => {
    request.destroy();
    socket.destroy();
    throw signal.aborted ? signal.reason : error;
  });
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const leave = () => reject(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) leave();
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/** The host of a URL; an IPv6 address is without its brackets. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "");
}

function portOf(url: URL): number {
  return Number(url.port) || (url.protocol === "https:" ? 443 : 80);
}

/** A URL for messages, without its query, which may be a secret. */
function shown({ origin, pathname }: URL): string {
  return JSON.stringify(`${origin}${pathname}`.slice(0, 200));
}
