/** Failures between this computer and the farm, as sentences for the user that say what to do about them. */
import { Code, ConnectError } from "@connectrpc/connect";
import { certificateTrouble } from "../dial/dial.ts";
import { errnoOf, type Code as FarmCode, FarmError, messageOf } from "../farm/errors.ts";
import { CommandExitSchema } from "../wire/gomote/gen/barnraiser_pb.ts";

/** A remote command that ran and failed, or could not be started. */
export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
  /** A number from 1 to 255. */
  readonly exitStatus: number;

  constructor(message: string, exitStatus: number) {
    super(message);
    this.exitStatus = exitStatus;
  }
}

/** The exit status when the farm failed, not the command. ssh uses the same. */
export const FARM_FAILED = 255;

/** The farm has no such method: it is the original's, or older than this command. */
export class NotOffered extends Error {
  override readonly name = "NotOffered";
}

const FARM_CODES: ReadonlyMap<Code, FarmCode> = new Map([
  [Code.InvalidArgument, "bad-request"],
  [Code.Unauthenticated, "unauthenticated"],
  [Code.PermissionDenied, "forbidden"],
  [Code.NotFound, "not-found"],
  [Code.FailedPrecondition, "conflict"],
  [Code.Aborted, "lease-lost"],
  [Code.ResourceExhausted, "too-large"],
  [Code.DeadlineExceeded, "timed-out"],
  [Code.Unavailable, "unavailable"],
  [Code.Canceled, "canceled"],
]);

/** The library's words when a limit of ours has passed. The farm has other words for its limits. */
const OWN_DEADLINE = "the operation timed out";

/** The field in which a farm says how a call ended. */
const FARMS_OWN = "grpc-status";

/**
 * `error` of a call to `server` that was to `what`, such as "list alice-linux-0". `lost`: what to do when it is the
 * connection that ended.
 */
export function callTrouble(error: unknown, what: string, server: string, lost = ""): Error {
  if (error instanceof FarmError) return error; // dialling has made the sentence already
  const { code, rawMessage, cause } = ConnectError.from(error);
  if (cause instanceof FarmError) return cause;
  const begin = `Cannot ${what.split(" ", 1)[0]} `;
  // Where the farm's own sentence says the same, ours would only distract from it.
  const failed = (reason: string) =>
    new FarmError(FARM_CODES.get(code) ?? "internal", reason.startsWith(begin) ? reason : `Cannot ${what}: ${reason}`, {
      cause: error,
    });
  if (isCut(ConnectError.from(error)))
    return new FarmError("unavailable", `Cannot ${what}: the connection to ${server} was lost (${rawMessage})${lost}`, {
      cause: error,
    });
  switch (code) {
    case Code.Unimplemented:
      return new NotOffered(`Cannot ${what}: ${server} does not offer that`, { cause: error });
    case Code.Unauthenticated:
      // Our farm says what to do, which may be nothing.
      if (rawMessage.startsWith("Cannot let you in"))
        return new FarmError("unauthenticated", rawMessage, { cause: error });
      return failed(`${server} does not know you (${rawMessage}); run \`gomote login\`, or set GOMOTE_TOKEN`);
    case Code.DeadlineExceeded:
      return failed(rawMessage === OWN_DEADLINE ? `${server} did not answer in time` : rawMessage);
    case Code.Unavailable:
      return failed(`${rawMessage} (${server})`);
    default:
      return failed(rawMessage);
  }
}

/** The failure of a remote command. Undefined: the farm or the machine failed. */
export function commandTrouble(error: unknown): CommandFailed | undefined {
  const failure = ConnectError.from(error);
  if (failure.code !== Code.Aborted || isCut(failure)) return undefined;
  const [exit] = failure.findDetails(CommandExitSchema);
  return new CommandFailed(exit?.processState || failure.rawMessage, exit?.exitStatus || 1);
}

/**
 * Whether the connection ended. The library reports that as a canceled call, or with the system's error of the socket.
 * After any answer of the farm itself the connection is well.
 */
function isCut({ code, cause, metadata }: ConnectError): boolean {
  if (metadata.has(FARMS_OWN)) return false;
  return code === Code.Canceled || /^(?:E[A-Z0-9]+|ERR_(?:HTTP2|STREAM)_\w+)$/.test(errnoOf(cause));
}

/** A refusal of this computer as a sentence: `Cannot open /x: no such file or directory`. */
export function localTrouble(error: Error & { readonly syscall: unknown }): string {
  return `Cannot ${error.syscall}${"path" in error ? ` ${error.path}` : ""}: ${systemWords(error)}`;
}

/** The system's words in an error, which Node shows as `ENOENT: no such file or directory, open '/x'`. */
export function systemWords(error: unknown): string {
  return messageOf(error).replace(/^E[A-Z0-9]+: (.+?), [\s\S]*$/, "$1");
}

/** The reason why a connection to `server` could not be made. */
export function dialTrouble(error: unknown, server: string, ownCa: boolean): FarmError {
  const failed = (reason: string) =>
    new FarmError("unavailable", `Cannot talk to ${server}: ${reason}`, { cause: error });
  const code = certificateTrouble(error);
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return failed(`its certificate is for another name (${messageOf(error)}); give -server a name that it is for`);
  if (code === "CERT_HAS_EXPIRED") return failed("its certificate has expired; tell the farm's operator");
  if (code !== undefined) {
    const advice = ownCa
      ? "the certificates given with -ca-file do not vouch for it"
      : "give the certificate of the farm's authority (.farm/tls/ca.pem) with -ca-file";
    return failed(`its certificate cannot be trusted (${messageOf(error)}); ${advice}`);
  }
  if (errnoOf(error).startsWith("ERR_SSL_") || errnoOf(error) === "EPROTO")
    return failed("it does not speak TLS; -server wants the coordinator's TLS port");
  return failed(messageOf(error).replace(/^Cannot dial \S+: /, ""));
}
