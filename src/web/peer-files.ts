/**
 * Answers the coordinators of the same farm, which ask one another for files over HTTP (peers/shared-blobs.ts). Not for
 * people or machines.
 */
import { PEER_BLOBS_PATH, type SharedBlobs } from "../peers/shared-blobs.ts";
import type { RequestListener } from "./front-door.ts";

/** Answers requests below PEER_BLOBS_PATH. All others go to `next`. */
export function servePeers(blobs: Pick<SharedBlobs, "serve">, next: RequestListener): RequestListener {
  return (request, response) => {
    const { method = "", url = "", headers, socket } = request;
    if (!url.startsWith(PEER_BLOBS_PATH)) {
      next(request, response);
      return;
    }
    const secure = "encrypted" in socket && socket.encrypted === true;
    void blobs.serve(method, url, headers.authorization ?? "", secure, response);
  };
}
