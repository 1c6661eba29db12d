/**
 * What every call has in common, as one interceptor around all methods:
 *
 *   who calls    `authorization: Bearer TOKEN`, before anything else is looked at
 *   where        a method finds that the instance's machine is connected to another coordinator (HeldElsewhere): the same call, with the same
 *                headers, is made there, and what comes back is passed on. That one asks for the token itself, so nothing is trusted
 *   how it ends  every error as one of gRPC's, with a sentence
 *
 * A call is passed on once. When the caller leaves, so does the call at the other end.
 */
import type { Message } from "@bufbuild/protobuf";
import {
  type ContextKey,
  createContextKey,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import type { Log } from "../../farm/deps.ts";
import { FarmError } from "../../farm/errors.ts";
import type { CoordinatorId } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import { HeldElsewhere } from "../instances.ts";
import type { Identify } from "./faces.ts";
import type { PeerCalls } from "./peer-calls.ts";
import { rpcError } from "./rpc-error.ts";

/** Says that a call was passed on, and by whom. */
const PASSED_ON = "barnraiser-passed-on";

const CALLER: ContextKey<Person | undefined> = createContextKey<Person | undefined>(undefined);

export interface CallsDeps {
  readonly people: Identify;
  readonly peers: Pick<PeerCalls, "unary" | "stream">;
  readonly coordinator: CoordinatorId;
  readonly log: Log;
}

/** Who calls; known in every method. */
export function callerOf(context: Pick<HandlerContext, "values">): Person {
  const person = context.values.get(CALLER);
  if (!person) throw new FarmError("unauthenticated", "Nobody is known to call.");
  return person;
}

export function calls(deps: CallsDeps): Interceptor {
  const { people, peers, coordinator, log } = deps;
  return (next) => async (request) => {
    const told = (reason: unknown) => rpcError(reason, request.method.name, log);
    const headers = () => passedOn(request.header, coordinator);
    try {
      const person = await people.identify(bearerOf(request.header));
      request.contextValues.set(CALLER, person);
      if (!request.stream) return await unary(request, next, peers, headers, told);
      return await streaming(request, next, peers, headers, told);
    } catch (error) {
      throw told(error);
    }
  };
}

type Next = Parameters<Interceptor>[0];
type Told = (reason: unknown) => Error;

async function unary(
  request: UnaryRequest,
  next: Next,
  peers: CallsDeps["peers"],
  headers: () => Headers,
  told: Told,
): Promise<UnaryResponse | StreamResponse> {
  try {
    return await next(request);
  } catch (error) {
    const elsewhere = heldElsewhere(error);
    if (!elsewhere) throw told(error);
    return await peers.unary(elsewhere.coordinator, request, headers());
  }
}

async function streaming(
  request: StreamRequest,
  next: Next,
  peers: CallsDeps["peers"],
  headers: () => Headers,
  told: Told,
): Promise<UnaryResponse | StreamResponse> {
  const seen: Message[] = [];
  const response = await next({ ...request, message: noted(request.message, seen) });
  if (!response.stream) return response;
  const whole = async function* () {
    try {
      yield* response.message;
    } catch (error) {
      const elsewhere = heldElsewhere(error);
      if (!elsewhere) throw told(error);
      // A method says so before it has answered anything.
      const again = { ...request, message: replayed(seen, request.message) };
      try {
        yield* (await peers.stream(elsewhere.coordinator, again, headers())).message;
      } catch (failed) {
        throw told(failed);
      }
    }
  };
  return { ...response, message: whole() };
}

/** A handler's error arrives as it is, or as the cause of what the library made of it. */
function heldElsewhere(error: unknown): HeldElsewhere | undefined {
  if (error instanceof HeldElsewhere) return error;
  return error instanceof Error && error.cause instanceof HeldElsewhere ? error.cause : undefined;
}

/** The first: no method reads more before it knows where the machine is. */
async function* noted(messages: AsyncIterable<Message>, seen: Message[]): AsyncGenerator<Message> {
  for await (const message of messages) {
    if (seen.length === 0) seen.push(message);
    yield message;
  }
}

async function* replayed(seen: readonly Message[], rest: AsyncIterable<Message>): AsyncGenerator<Message> {
  yield* seen;
  yield* rest;
}

function bearerOf(header: Headers): string {
  const given = header.get("authorization");
  if (given === null)
    throw new FarmError(
      "unauthenticated",
      `Cannot let you in without a token: want "authorization: Bearer TOKEN". "gomote login" gets one.`,
    );
  const [, bearer] = /^Bearer +(\S+) *$/i.exec(given) ?? [];
  if (bearer === undefined)
    throw new FarmError("unauthenticated", `Cannot let you in with this authorization: want "Bearer TOKEN".`);
  return bearer;
}

function passedOn(header: Headers, self: CoordinatorId): Headers {
  const before = header.get(PASSED_ON);
  if (before !== null)
    throw new FarmError(
      "unavailable",
      `Coordinator ${before} passed this call on, and its machine is not here either; try again.`,
    );
  const headers = new Headers({ [PASSED_ON]: self });
  const authorization = header.get("authorization");
  if (authorization !== null) headers.set("authorization", authorization);
  return headers;
}
