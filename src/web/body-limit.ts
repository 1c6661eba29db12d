/**
 * How long the body of a request to a page may take. Node's own limit holds for every request of a server alike, and files on their way between
 * people and machines may take hours; so it is off there (front-door.ts), and all bodies pass here.
 *
 *   not a file   BODY_LIMIT from its head to its end
 *   a file       as long as whoever takes it goes on (gomote/transfers/meter.ts); BODY_LIMIT from their answer, when that comes before the end
 */
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import type { RequestListener } from "./front-door.ts";

export const BODY_LIMIT: Ms = minutes(5);

/** Where a body is a file for an instance (gomote-file-routes.ts). */
const FILES = /^\/gomotes\/[^/?]+\/files(?:\?|$)/;

/** Hangs up on whoever has not sent all of a request in time; all others are left to `next`. */
export function limitBodies(clock: Clock, next: RequestListener): RequestListener {
  return (request, response) => {
    next(request, response);
    const { method = "", url = "" } = request;
    if (method === "GET" || method === "HEAD") return;
    const over = new AbortController();
    request.once("end", () => over.abort()).once("close", () => over.abort());
    const begin = () =>
      void clock.sleep(BODY_LIMIT, over.signal).then(
        () => ("stream" in request ? request.stream.destroy() : request.destroy()),
        () => {},
      );
    if (FILES.test(url)) response.once("finish", begin);
    else begin();
  };
}
