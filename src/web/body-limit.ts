/**
 * How long the body of a request to a page may take.
 *
 * Node's own limit is the same for every request of a server, and files between people and machines may take hours. So
 * Node's limit is off (front-door.ts), and all bodies pass here.
 *
 *   not a file   BODY_LIMIT from the head to the end of the body
 *   a file       as long as the transfer goes on (gomote/transfers/meter.ts); after the answer, BODY_LIMIT for the rest
 */
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import type { RequestListener } from "./front-door.ts";

export const BODY_LIMIT: Ms = minutes(5);

/** Addresses to which a body is a file for an instance (gomote-file-routes.ts). */
const FILES = /^\/gomotes\/[^/?]+\/files(?:\?|$)/;

/** Passes requests on to `next`, and hangs up on clients that do not send the whole request in time. */
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
