/**
 * Executions: commands of POST /exec that outlive the connection that started them. Ours; the original ignores the headers.
 *
 *   POST /exec   Barnraiser-Execution: a7.2     names the command, 1 to 64 letters, digits, `.`, `-`, `_`
 *                Barnraiser-From: 4096          bytes of output that the client has; 0 when it has none
 *                Barnraiser-Alone: 300000       milliseconds for which the command may go on with nobody attached; five minutes without it
 *   200          Barnraiser-Age: 1500           for how many milliseconds the command has been running, or ran; 0 for one that this
 *                                               request starts
 *                Barnraiser-Length: 9000        bytes that it has printed by now: what comes up to there was printed before
 *                                               then its output from the byte asked for on, and the trailer, as for any exec
 *   POST /exec-end   form field id              kills it with all that it started if it runs, and forgets it; 200 also when it is unknown
 *
 * An unknown name starts the command of the form; a known one, running or ended, is attached to, whatever the form says. One
 * client is attached at a time: the newest. An offset beyond the output stands for its end.
 *   409   an unknown name with an offset: what the client wants to go on with is not here
 *   410   a name that was given up (unattended for too long, or ended), or output that is not kept any more
 * A command that nobody was attached to for so long is killed, and forgotten if it had ended. `/removeall` of `.` ends all executions: a new build begins.
 * An agent that does this says `resume=1` when it registers (../revdial/registration.ts).
 */
import { type Ms, ms } from "../../farm/ids.ts";
import { RECONNECT_WITHIN } from "../../farm/lease.ts";
import { fieldValues, type HeaderField, type ResponseHead } from "../revdial/http-head.ts";

/** The version that our agent says. */
export const RESUME_VERSION = 1;

export const EXECUTION_HEADER = "Barnraiser-Execution";
export const FROM_HEADER = "Barnraiser-From";
export const ALONE_HEADER = "Barnraiser-Alone";
export const AGE_HEADER = "Barnraiser-Age";
export const LENGTH_HEADER = "Barnraiser-Length";
export const EXEC_END_PATH = "/exec-end";

/** Longer than anybody is waited for. */
const LONGEST_ALONE = 86_400_000;

export interface ExecutionRef {
  readonly id: string;
  readonly from: number;
  /** How long it may go on with nobody attached. */
  readonly aloneFor: Ms;
}

export function executionFields({ id, from, aloneFor }: ExecutionRef): HeaderField[] {
  return [
    [EXECUTION_HEADER, id],
    [FROM_HEADER, String(from)],
    [ALONE_HEADER, String(aloneFor)],
  ];
}

/** Undefined: neither `id` nor `from` was sent. Throws with a reason for the client when they are not as they should be. */
export function readExecution(
  id: string | undefined,
  from: string | undefined,
  alone: string | undefined,
): ExecutionRef | undefined {
  if (id === undefined && from === undefined) return undefined;
  if (id === undefined || !/^[A-Za-z0-9._-]{1,64}$/.test(id)) {
    const given = JSON.stringify((id ?? "").slice(0, 80));
    throw new RangeError(`Bad ${EXECUTION_HEADER} ${given}: want 1 to 64 letters, digits, ".", "-" or "_"`);
  }
  const offset = Number(from ?? 0);
  if (!/^\d{1,16}$/.test(from ?? "0") || !Number.isSafeInteger(offset)) {
    throw new RangeError(`Bad ${FROM_HEADER} ${JSON.stringify((from ?? "").slice(0, 80))}: want a number of bytes`);
  }
  const aloneMs = Number(alone ?? RECONNECT_WITHIN);
  if (!/^\d{1,8}$/.test(alone ?? "0") || aloneMs > LONGEST_ALONE) {
    const given = JSON.stringify((alone ?? "").slice(0, 80));
    throw new RangeError(`Bad ${ALONE_HEADER} ${given}: want milliseconds, a day at most`);
  }
  return { id, from: offset, aloneFor: ms(aloneMs) };
}

/** How long the command of a response has been running, or ran; 0 when it does not say. */
export function executionAge(head: ResponseHead): Ms {
  const [age = ""] = fieldValues(head, AGE_HEADER);
  return ms(/^\d{1,12}$/.test(age) ? Number(age) : 0);
}

/** How much the command of a response had printed before; when it does not say, everything that comes may be old. */
export function executionLength(head: ResponseHead): number {
  const [length = ""] = fieldValues(head, LENGTH_HEADER);
  return /^\d{1,15}$/.test(length) ? Number(length) : Number.MAX_SAFE_INTEGER;
}
