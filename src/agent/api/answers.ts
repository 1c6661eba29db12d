/** How the API's handlers answer: with a text, with nothing but the status, or with a stream. */
import type { ServerResponse } from "node:http";

export function sendText(response: ServerResponse, body: string, type = "text/plain; charset=utf-8"): void {
  response.writeHead(200, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(body);
}

/** Answers that it was done. */
export function sendDone(response: ServerResponse): void {
  response.writeHead(200, { "Content-Length": 0 }).end();
}

/**
 * Sends what `pieces` gives, waiting for the client where it is slow. An error before the first piece is explained when
 * asked for; later the connection is cut, so that the client sees that the body is not whole.
 */
export async function sendAll(
  response: ServerResponse,
  pieces: AsyncGenerator<Buffer>,
  onError: "cut" | "explain",
): Promise<void> {
  const gone = new Promise<void>((resolve) => response.once("close", resolve));
  try {
    for await (const piece of pieces) {
      if (response.destroyed) return;
      if (!response.write(piece)) await Promise.race([new Promise((resolve) => response.once("drain", resolve)), gone]);
    }
    response.end();
  } catch (error) {
    if (onError === "explain" && !response.headersSent) throw error;
    response.destroy();
  }
}
