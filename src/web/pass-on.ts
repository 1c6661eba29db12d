/**
 * Requests that another coordinator has to answer, because the machine of an instance is connected to it. The browser's
 * request is sent there as it is, with its cookie and origin, and the answer is passed on. The other coordinator itself
 * decides who asks and whether they may.
 *
 * A request is passed on once. If the machine is not connected there either, the answer tells the browser to try again.
 */
import { request as ask, type IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { TLSSocket } from "node:tls";
import { FarmError } from "../farm/errors.ts";
import type { CoordinatorId } from "../farm/ids.ts";
import type { Lending } from "./deps.ts";
import type { Ctx } from "./http.ts";

/** The header that marks a request as passed on. */
export const PASSED_ON = "barnraiser-passed-on";
/** Headers about one connection. They are not passed on. */
const HOP: ReadonlySet<string> = new Set(["connection", "keep-alive", "transfer-encoding", "upgrade"]);

export async function passOn(c: Ctx, { peers }: Pick<Lending, "peers">, coordinator: CoordinatorId): Promise<Response> {
  if (c.req.header(PASSED_ON) !== undefined) throw movedOn();
  const { signal, body } = c.req.raw;
  const socket = await peers.connect(coordinator, signal);
  const url = new URL(c.req.url);
  const headers = Object.fromEntries([...c.req.raw.headers].filter(([name]) => !HOP.has(name)));
  const options = {
    createConnection: () => socket,
    method: c.req.method,
    path: url.pathname + url.search,
    headers: { ...headers, host: url.host, [PASSED_ON]: "1" },
    signal,
  };
  const answer = await asked(socket, options, body === null ? undefined : Readable.fromWeb(body as never));
  const passed = new Headers();
  for (const [name, value] of Object.entries(answer.headers)) {
    if (!HOP.has(name) && typeof value === "string") passed.set(name, value);
  }
  return new Response(Readable.toWeb(answer) as ReadableStream, { status: answer.statusCode ?? 502, headers: passed });
}

export function movedOn(): FarmError {
  return new FarmError(
    "unavailable",
    "The machine of this instance is moving to another coordinator; try again in a moment.",
  );
}

function asked(socket: TLSSocket, options: object, body: Readable | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const refused = (error: Error) =>
      reject(
        new FarmError("unavailable", `The coordinator that has the machine does not answer: ${error.message}`, {
          cause: error,
        }),
      );
    const request = ask(options, (answer) => {
      answer.once("close", () => socket.destroy());
      resolve(answer);
    });
    request.once("error", refused);
    if (body) pipeline(body, request).catch(refused);
    else request.end();
  });
}
