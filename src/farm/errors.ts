/**
 * What a caller may be told: one closed table of codes, one class.
 *
 * Everything else that reaches a handler is our bug: it is logged whole and answered as `internal`.
 * A message says what could not be done, quoting what was given, and what to do about it. It never holds a secret.
 */
export const CODES = {
  "bad-request": { http: 400, grpc: 3, retry: false }, // the request can never succeed as sent
  unauthenticated: { http: 401, grpc: 16, retry: false }, // not identified; a login or another key may help
  forbidden: { http: 403, grpc: 7, retry: false }, // identified, and not allowed to do this
  "not-found": { http: 404, grpc: 5, retry: false }, // no such build, machine or file
  gone: { http: 410, grpc: 5, retry: false }, // it existed, and was deleted because of its age
  conflict: { http: 409, grpc: 9, retry: false }, // the thing is not in a state in which this can be done
  "lease-lost": { http: 409, grpc: 10, retry: false }, // the work was given to another machine or coordinator
  "too-large": { http: 413, grpc: 8, retry: false }, // over a limit that the message names
  "machine-gone": { http: 503, grpc: 14, retry: true }, // the machine hung up or stopped answering; another may do
  "carrier-gone": { http: 503, grpc: 14, retry: true }, // the coordinator that passed a machine's connection on to us has ended; the machine is well
  "machine-broken": { http: 502, grpc: 13, retry: true }, // the machine's answer breaks the protocol
  "timed-out": { http: 504, grpc: 4, retry: true }, // a limit of ours ran out; the message names it
  unavailable: { http: 503, grpc: 14, retry: true }, // the database or another part is away for the moment
  canceled: { http: 499, grpc: 1, retry: false }, // the caller took the request back
  internal: { http: 500, grpc: 13, retry: false }, // our bug; only the log says more
} as const;

export type Code = keyof typeof CODES;

export class FarmError extends Error {
  override readonly name = "FarmError";
  readonly code: Code;

  constructor(code: Code, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** `reason` as a FarmError: itself when it is one, otherwise `internal` with the original as cause. */
  static from(reason: unknown): FarmError {
    if (reason instanceof FarmError) return reason;
    return new FarmError("internal", messageOf(reason), { cause: reason });
  }
}

/** The text of anything thrown. */
export function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}

/** `ENOENT` and the like, "" for errors that the system did not make. */
export function errnoOf(reason: unknown): string {
  return reason instanceof Error && "code" in reason && typeof reason.code === "string" ? reason.code : "";
}
