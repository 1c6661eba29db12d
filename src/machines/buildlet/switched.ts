/**
 * Connections on which a machine, or another coordinator, stops speaking HTTP: one request, 101, and then bytes both
 * ways.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import {
  encodeRequestHead,
  fieldValues,
  type HeaderField,
  type ResponseHead,
  responseHeadReader,
} from "../../wire/revdial/http-head.ts";
import { refusal } from "./refusal.ts";

/** The limit from dialling to the 101. The original tries its sshd for up to 5 s. */
const SWITCH_LIMIT: Ms = seconds(20);
const WORDS_LIMIT = 4096;

export interface SwitchOptions {
  /** The name of the other side in messages. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly dial: (signal: AbortSignal) => Promise<Duplex>;
  /** Aborts when the other side is gone. Then the connection is destroyed. */
  readonly gone: AbortSignal;
}

export interface SwitchRequest {
  readonly target: string;
  /** What the connection is for, as words behind "Cannot". */
  readonly doing: string;
  /** The value of Upgrade. */
  readonly protocol: string;
  readonly fields?: readonly HeaderField[];
}

export interface Switched {
  /** The connection, which the caller owns from then on. */
  readonly socket: Duplex;
  /** The protocol that the other side has named in its answer. */
  readonly protocol: string;
}

/**
 * The connection, once the other side has switched. Throws FarmError: `not-found` for a 404, `bad-request` for another
 * refusal, `machine-broken` for a 5xx, `machine-gone` when it hung up or did not answer, or the reason of a signal.
 */
export async function switched(
  { name, clock, log, dial, gone }: SwitchOptions,
  { target, doing, protocol, fields = [] }: SwitchRequest,
  signal?: AbortSignal,
): Promise<Switched> {
  const call = `POST ${target.split("?", 1)[0]}`;
  const late = new AbortController();
  const done = new AbortController();
  clock.sleep(SWITCH_LIMIT, done.signal).then(
    () => late.abort(new FarmError("machine-gone", `${name} did not answer ${call} within ${SWITCH_LIMIT / 1000} s`)),
    () => {},
  );
  const stop = AbortSignal.any([late.signal, gone, ...(signal ? [signal] : [])]);
  let socket: Duplex | undefined;
  try {
    stop.throwIfAborted();
    socket = await dial(stop);
    const host: HeaderField = ["Host", name.replace(/[^\x21-\x7e]/g, "?")];
    const length: HeaderField = ["Content-Length", "0"];
    const upgrade: HeaderField[] = [
      ["Connection", "Upgrade"],
      ["Upgrade", protocol],
    ];
    socket.write(encodeRequestHead("POST", target, [host, length, ...upgrade, ...fields]));
    const { head, rest } = await answerOf(socket, stop);
    const { status } = head;
    if (status !== 101) {
      const words = await wordsOf(socket, head, rest, stop);
      const code = status === 404 ? "not-found" : status < 500 ? "bad-request" : "machine-broken";
      throw refusal(log, code, { name, call, doing, status, words });
    }
    if (rest.length > 0) socket.unshift(rest);
    const taken = socket;
    const onGone = (): void => void taken.destroy();
    gone.addEventListener("abort", onGone, { once: true });
    taken.once("close", () => gone.removeEventListener("abort", onGone)); // a machine outlives its shells
    if (gone.aborted) taken.destroy();
    return { socket: taken, protocol: fieldValues(head, "Upgrade")[0] ?? "" };
  } catch (error) {
    socket?.destroy();
    if (stop.aborted) throw stop.reason;
    if (error instanceof FarmError) throw error;
    throw new FarmError("machine-gone", `${name} broke off ${call}: ${messageOf(error)}`, { cause: error });
  } finally {
    done.abort();
  }
}

/** Reads the answer. It leaves no listeners on the socket. */
async function answerOf(
  socket: Duplex,
  signal: AbortSignal,
): Promise<{ readonly head: ResponseHead; readonly rest: Uint8Array }> {
  const reader = responseHeadReader();
  for (;;) {
    const chunk = await nextOf(socket, signal);
    if (chunk === undefined) throw new Error("it hung up");
    const read = reader.push(chunk);
    if (read) return read;
  }
}

/** The text of an answer. The original does not hang up after it. */
async function wordsOf(socket: Duplex, head: ResponseHead, rest: Uint8Array, signal: AbortSignal): Promise<string> {
  const chunks: Uint8Array[] = [rest];
  const [said = ""] = fieldValues(head, "Content-Length");
  const most = /^\d{1,9}$/.test(said) ? Math.min(Number(said), WORDS_LIMIT) : WORDS_LIMIT;
  for (let length = rest.length; length < most; ) {
    const chunk = await nextOf(socket, signal).catch(() => undefined);
    if (chunk === undefined) break;
    chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks).toString("utf8", 0, WORDS_LIMIT).trim();
}

/** The next bytes; undefined at the end. */
function nextOf(socket: Duplex, signal: AbortSignal): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void) => {
      socket.off("readable", onReadable).off("end", onEnd).off("close", onEnd).off("error", onError);
      signal.removeEventListener("abort", onAbort);
      end();
    };
    const onReadable = () => {
      const chunk: Buffer | null = socket.read();
      if (chunk !== null) settle(() => resolve(chunk));
    };
    const onEnd = () => settle(() => resolve(undefined));
    const onError = (error: Error) => settle(() => reject(error));
    const onAbort = () => settle(() => reject(signal.reason));
    socket.on("readable", onReadable).on("end", onEnd).on("close", onEnd).on("error", onError);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    else if (socket.destroyed) onEnd();
    else onReadable();
  });
}
