/**
 * A machine's session with its coordinator: one control connection, and one more for each `conn-ready` line.
 *
 *   dialling -101-> registered -control closed, silent or malformed-> over
 *   conn-ready: dial, GET the path exactly as given, then serve HTTP on it;  a failure is reported by pickup-failed
 *
 * The original coordinator never hears from us on the control connection unless a pick-up fails. Ours asks for a sign
 * of life in its 101 (Barnraiser-Pong): then each keep-alive is answered with a pong, and as it is sure to send one
 * every 30 s, SILENCE without any line means that the link is dead, however long TCP would go on hoping.
 */
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../farm/clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { type ControlLine, ControlLineReader, encodeControlLine } from "../../wire/revdial/control-line.ts";
import { fieldValues, type HeaderField } from "../../wire/revdial/http-head.ts";
import { PONG_HEADER, REVERSE_PATH } from "../../wire/revdial/registration.ts";
import type { Dial } from "../dial.ts";
import { switchProtocol } from "./switch-protocol.ts";

/** A little more than three keep-alives of our coordinator. */
export const SILENCE: Ms = seconds(95);
/** The longest error that we send, in characters: a control line over 4096 bytes ends the session. */
const ERR_LIMIT = 500;

const PLAIN_FIELDS: readonly HeaderField[] = [
  ["Host", ""],
  ["User-Agent", "Go-http-client/1.1"],
];

export interface ReverseSessionDeps {
  readonly dial: Dial;
  readonly clock: Clock;
  /** Serves a connection that was picked up. */
  readonly accept: (socket: TLSSocket) => void;
  readonly log: (line: string) => void;
  /** Called when we were accepted. `ours`: by a farm of our own kind. */
  readonly registered?: (ours: boolean) => void;
}

/** Registers and serves until the session is over; resolves with the reason. Rejects when it was not accepted. */
export async function runReverseSession(
  deps: ReverseSessionDeps,
  registration: readonly HeaderField[],
  signal: AbortSignal,
): Promise<string> {
  const control = await deps.dial(signal);
  const over = new AbortController();
  const pickUps = new Set<Promise<void>>();
  try {
    const { head, rest } = await switchProtocol(
      control,
      REVERSE_PATH,
      [...PLAIN_FIELDS, ...registration],
      deps.clock,
      signal,
    );
    const pong = fieldValues(head, PONG_HEADER)[0] === "1";
    deps.registered?.(pong);
    deps.log("Registered with the coordinator; waiting for work");
    const ends = AbortSignal.any([signal, over.signal]);
    return await readControl(control, rest, pong ? deps.clock : undefined, signal, (line) => {
      if (line.command === "keep-alive" && pong) control.write(encodeControlLine({ command: "pong" }));
      if (line.command !== "conn-ready") return;
      const path = line.connPath ?? "";
      const pickUp = pickUpConnection(deps, path, ends).catch((error) => {
        if (ends.aborted) return;
        const err = messageOf(error).slice(0, ERR_LIMIT);
        deps.log(`Could not pick up a connection: ${err}`);
        control.write(encodeControlLine({ command: "pickup-failed", ...(pong ? { connPath: path } : {}), err }));
      });
      pickUps.add(pickUp);
      void pickUp.finally(() => pickUps.delete(pickUp));
    });
  } finally {
    over.abort(new Error("The session is over"));
    control.destroy();
    await Promise.allSettled(pickUps);
  }
}

/**
 * Gives each line to `take` until the connection ends; resolves with the reason. With a clock, silence ends it, too.
 */
function readControl(
  control: TLSSocket,
  rest: Uint8Array,
  clock: Clock | undefined,
  signal: AbortSignal,
  take: (line: ControlLine) => void,
): Promise<string> {
  return new Promise((resolve) => {
    const reader = new ControlLineReader();
    let silence = new AbortController();
    const end = (why: string) => {
      silence.abort();
      control.off("data", data);
      resolve(why);
    };
    const listen = () => {
      silence.abort();
      silence = new AbortController();
      const { signal: stop } = silence;
      clock?.sleep(SILENCE, stop).then(
        () => end("the coordinator has been silent for too long"),
        () => {},
      );
    };
    const data = (chunk: Uint8Array) => {
      try {
        const lines = reader.push(chunk);
        if (lines.length > 0) listen();
        for (const line of lines) take(line);
      } catch (error) {
        end(messageOf(error));
      }
    };
    control.once("end", () => end("the coordinator closed the connection"));
    control.once("close", () => end("the connection to the coordinator was lost"));
    control.on("error", (error) => end(`the connection to the coordinator failed: ${error.message}`));
    signal.addEventListener("abort", () => end("told to stop"), { once: true });
    listen();
    if (rest.length > 0) data(rest);
    control.on("data", data);
    control.resume(); // it was paused, so that nothing is lost
    if (control.destroyed) end("the connection to the coordinator was lost");
    if (signal.aborted) end("told to stop");
  });
}

async function pickUpConnection(deps: ReverseSessionDeps, path: string, signal: AbortSignal): Promise<void> {
  // The path goes into a request line, where a blank would change what the request means.
  if (!/^\/[!-~]*$/.test(path)) throw new Error(`bad connPath ${JSON.stringify(path.slice(0, 80))}`);
  const socket = await deps.dial(signal);
  try {
    const { rest } = await switchProtocol(socket, path, PLAIN_FIELDS, deps.clock, signal);
    if (rest.length > 0) socket.unshift(rest);
    deps.accept(socket);
    socket.resume();
  } catch (error) {
    socket.on("error", () => {});
    socket.destroy();
    throw error;
  }
}
