/** Refuses a machine's request: sends a short text that its owner finds in a log, then ends the connection. */
import { encodeResponseHead, type HeaderField } from "../../wire/revdial/http-head.ts";
import type { MachineSocket } from "../door.ts";

/** How long the other side may take to read its answer and hang up. */
const ANSWER_READ_MS = 2000;

const REASONS: { readonly [status: number]: string } = {
  400: "Bad Request",
  405: "Method Not Allowed",
  408: "Request Timeout",
  412: "Precondition Failed",
  421: "Misdirected Request",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** Answers with `text`, which is well below 1 KiB since machines pass it on in a control line, and closes. */
export function answer(socket: MachineSocket, status: number, text: string, more: readonly HeaderField[] = []): void {
  const body = Buffer.from(`${text.slice(0, 600)}\n`, "utf8");
  const head = encodeResponseHead(status, REASONS[status] ?? "Error", [
    ["Content-Type", "text/plain; charset=utf-8"],
    ["Content-Length", String(body.length)],
    ["Connection", "close"],
    ...more,
  ]);
  if (socket.destroyed) return;
  socket.on("error", () => {});
  socket.resume(); // further bytes do not matter, and must not keep it from ending
  socket.once("end", () => socket.destroy()); // not sooner, or it could lose the answer
  socket.setTimeout?.(ANSWER_READ_MS, () => socket.destroy());
  socket.end(Buffer.concat([head, body]));
}
