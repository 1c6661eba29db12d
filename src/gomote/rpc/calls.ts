/**
 * What every call has in common, as one interceptor around all methods:
 *
 *   who calls    `authorization: Bearer TOKEN`. It is checked before anything else, and again while the call goes on
 *                (let-in.ts)
 *   where        a method may find that the instance's machine is connected to another coordinator (HeldElsewhere). The
 *                same call, with the same headers, is then made there, and its answer is passed on. That coordinator
 *                checks the token itself. It believes only the origin at which the caller reached the farm, which the
 *                first coordinator signs (peers/peer-signature.ts)
 *   how it ends  every error becomes one of gRPC's, with a sentence
 *
 * A call is passed on once. When the caller leaves, the call at the other coordinator ends, too.
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
import type { PeerSignature } from "../../peers/peer-signature.ts";
import { HeldElsewhere } from "../instances.ts";
import type { Caller } from "./faces.ts";
import type { LetIn } from "./let-in.ts";
import type { PeerCalls } from "./peer-calls.ts";
import { rpcError } from "./rpc-error.ts";

/** The header that says which coordinator passed a call on. */
const PASSED_ON = "barnraiser-passed-on";
/** The header with the origin at which the caller reached the farm. */
const ORIGIN_FIELD = "barnraiser-origin";
/** The header with the signature of that origin, by the coordinator that passed the call on. */
const SIGNED_FIELD = "barnraiser-origin-signed";
/** How the original command's gRPC library names itself. */
const ORIGINAL = /^grpc-go\//;

const CALLER: ContextKey<Caller | undefined> = createContextKey<Caller | undefined>(undefined);
const ORIGIN: ContextKey<string> = createContextKey("");

export interface CallsDeps {
  readonly letIn: Pick<LetIn, "admit">;
  readonly peers: Pick<PeerCalls, "unary" | "stream">;
  readonly signature: Pick<PeerSignature, "authorization" | "refusal">;
  readonly coordinator: CoordinatorId;
  /** The port of the pages without TLS. */
  readonly plainPort: () => number;
  readonly log: Log;
}

/** The caller, who is known in every method. */
export function callerOf(context: Pick<HandlerContext, "values">): Caller {
  const person = context.values.get(CALLER);
  if (!person) throw new FarmError("unauthenticated", "Nobody is known to call.");
  return person;
}

/** The origin at which the caller reached the farm for this call: `https://farm.example.org:8119`. */
export function originOf(context: Pick<HandlerContext, "values">): string {
  return context.values.get(ORIGIN);
}

/**
 * The origin for `originOf`. The original command accepts any certificate of a `localhost` that it calls, but none that
 * the farm made when it fetches files from there. So it is given the plain port, which it needs for its token anyway.
 */
function originFor({ header, url }: Pick<UnaryRequest, "header" | "url">, deps: CallsDeps): string {
  const passed = header.get(ORIGIN_FIELD);
  const signed = header.get(SIGNED_FIELD) ?? "";
  if (passed !== null && deps.signature.refusal(originText(passed), signed) === undefined) return passed;
  const { hostname, origin } = new URL(url);
  if (hostname !== "localhost" || !ORIGINAL.test(header.get("user-agent") ?? "")) return origin;
  return `http://localhost:${deps.plainPort()}`;
}

/** The text that is signed for an origin. */
function originText(origin: string): string {
  return `origin ${origin}`;
}

export function calls(deps: CallsDeps): Interceptor {
  const { letIn, peers, log } = deps;
  return (next) => async (request) => {
    let ended: AbortSignal | undefined;
    const told = (reason: unknown) => rpcError(ended?.aborted ? ended.reason : reason, request.method.name, log);
    try {
      const admitted = await letIn.admit(bearerOf(request.header), request.signal);
      ended = admitted.ended;
      request.contextValues.set(CALLER, admitted.caller);
      const origin = originFor(request, deps);
      request.contextValues.set(ORIGIN, origin);
      const headers = (to: CoordinatorId) => passedOn(request.header, to, origin, deps);
      const signal = AbortSignal.any([request.signal, ended]);
      if (!request.stream) return await unary({ ...request, signal }, next, peers, headers, told);
      return await streaming({ ...request, signal }, next, peers, headers, told);
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
  headers: (to: CoordinatorId) => Headers,
  told: Told,
): Promise<UnaryResponse | StreamResponse> {
  try {
    return await next(request);
  } catch (error) {
    const elsewhere = heldElsewhere(error);
    if (!elsewhere) throw told(error);
    return await peers.unary(elsewhere.coordinator, request, headers(elsewhere.coordinator));
  }
}

async function streaming(
  request: StreamRequest,
  next: Next,
  peers: CallsDeps["peers"],
  headers: (to: CoordinatorId) => Headers,
  told: Told,
): Promise<UnaryResponse | StreamResponse> {
  const said = new Said(request.message);
  /**
   * Makes the call elsewhere if `error` says so. A method does that before it has answered anything, and after it has
   * read one message at most.
   */
  const elsewhereOr = async (error: unknown): Promise<StreamResponse> => {
    const elsewhere = heldElsewhere(error);
    if (!elsewhere) throw told(error);
    const { coordinator } = elsewhere;
    return await peers.stream(coordinator, { ...request, message: said.again() }, headers(coordinator));
  };
  let response: UnaryResponse | StreamResponse;
  try {
    response = await next({ ...request, message: said });
  } catch (error) {
    return await elsewhereOr(error);
  }
  if (!response.stream) return response;
  const { message } = response;
  const whole = async function* () {
    try {
      yield* message;
    } catch (error) {
      const other = await elsewhereOr(error);
      try {
        yield* other.message;
      } catch (failed) {
        throw told(failed);
      }
    }
  };
  return { ...response, message: whole() };
}

/**
 * The messages of a caller, which can be sent once more, to another coordinator. Only the first has to be kept for
 * that.
 */
class Said implements AsyncIterable<Message> {
  readonly #source: AsyncIterator<Message>;
  #first: Message | undefined;

  constructor(messages: AsyncIterable<Message>) {
    this.#source = messages[Symbol.asyncIterator]();
  }

  /** A reader that stops does not end the messages for the next reader. */
  [Symbol.asyncIterator](): AsyncIterator<Message> {
    return {
      next: async () => {
        const result = await this.#source.next();
        if (!result.done) this.#first ??= result.value;
        return result;
      },
    };
  }

  async *again(): AsyncGenerator<Message> {
    if (this.#first) yield this.#first;
    for (let part = await this.#source.next(); !part.done; part = await this.#source.next()) yield part.value;
  }
}

/** The HeldElsewhere that a method threw. It arrives as it is, or as the cause of an error of the library. */
function heldElsewhere(error: unknown): HeldElsewhere | undefined {
  if (error instanceof HeldElsewhere) return error;
  return error instanceof Error && error.cause instanceof HeldElsewhere ? error.cause : undefined;
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

function passedOn(header: Headers, to: CoordinatorId, origin: string, deps: CallsDeps): Headers {
  const before = header.get(PASSED_ON);
  if (before !== null)
    throw new FarmError(
      "unavailable",
      `Coordinator ${before} passed this call on, and its machine is not here either; try again.`,
    );
  const signed = deps.signature.authorization(originText(origin), to);
  const headers = new Headers({ [PASSED_ON]: deps.coordinator, [ORIGIN_FIELD]: origin, [SIGNED_FIELD]: signed });
  const authorization = header.get("authorization");
  if (authorization !== null) headers.set("authorization", authorization);
  return headers;
}
