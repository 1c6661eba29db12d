import { messageOf } from "../../farm/errors.ts";

/** A request that is answered with `status` and the message as plain text. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;

  constructor(status: number, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.status = status;
  }
}

/** Why something failed, as the peer may read it: without the path on this machine that the system's message names. */
export function fsReason(reason: unknown): string {
  const message = messageOf(reason);
  if (!(reason instanceof Error) || !("syscall" in reason)) return message;
  const end = message.indexOf(`, ${reason.syscall}`);
  return end === -1 ? message : message.slice(0, end);
}

/** Does `work`. Where the system refuses, the error says `what` and the reason. */
export async function orSay(what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw error instanceof ApiError ? error : new ApiError(500, `${what}: ${fsReason(error)}`, { cause: error });
  }
}
