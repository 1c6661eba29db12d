/**
 * Decides which machines the pool lets in: reads a registration and checks its key. A refused machine gets the reason.
 */
import type { Log } from "../../farm/deps.ts";
import { messageOf } from "../../farm/errors.ts";
import type { RequestHead } from "../../wire/revdial/http-head.ts";
import type { MachineSocket } from "../door.ts";
import type { Claimant, KeyCheck } from "../keys.ts";
import { answer } from "./answer.ts";
import { type Introduction, readIntroduction } from "./introduction.ts";

export interface AdmissionDeps {
  readonly log: Log;
  readonly check: (claimant: Claimant) => Promise<KeyCheck>;
}

export interface Admitted {
  readonly introduction: Introduction;
  /** The id of the machine's own key; null: it came with the shared key. */
  readonly keyId: string | null;
  readonly address: string;
}

/** The machine that may come in. Undefined: it was refused. */
export async function admit(
  { check, log }: AdmissionDeps,
  socket: MachineSocket,
  head: RequestHead,
): Promise<Admitted | undefined> {
  socket.on("error", () => {}); // the socket's end is noticed elsewhere
  const address = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? "?"}`;
  const read = readIntroduction(head);
  if (read.kind === "refused") {
    log.info({ address, status: read.refusal.status, reason: read.refusal.reason }, "Refused a registration");
    answer(socket, read.refusal.status, read.refusal.reason);
    return undefined;
  }
  const { introduction } = read;
  const { name, hostType } = introduction;
  let checked: KeyCheck;
  try {
    checked = await check(introduction);
  } catch (error) {
    log.warn({ address, name, hostType, error: messageOf(error) }, "Could not check a machine's key");
    answer(socket, 503, "The coordinator cannot check the key now; try again.");
    return undefined;
  }
  if (!checked.ok) {
    log.info({ address, name, hostType, reason: checked.reason }, "Refused a machine's key");
    answer(socket, 412, checked.reason);
    return undefined;
  }
  return { introduction, keyId: checked.keyId, address };
}
