/**
 * How long the body of a request to a page may take. Node's own limit holds for every request of a server alike, and files on their way between
 * people and machines may take hours; so it is off there (front-door.ts), and what is not a file passes here.
 */
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import type { RequestListener } from "./front-door.ts";

export const BODY_LIMIT: Ms = minutes(5);

/** Hangs up on whoever has not sent all of a request within BODY_LIMIT; all others are left to `next`. */
export function limitBodies(clock: Clock, next: RequestListener): RequestListener {
  return (request, response) => {
    next(request, response);
    if (request.method === "GET" || request.method === "HEAD") return;
    const over = new AbortController();
    request.once("end", () => over.abort()).once("close", () => over.abort());
    clock.sleep(BODY_LIMIT, over.signal).then(
      () => ("stream" in request ? request.stream.destroy() : request.destroy()),
      () => {},
    );
  };
}
