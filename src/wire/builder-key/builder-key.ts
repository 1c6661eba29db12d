/**
 * Builder keys as the protocol knows them: what a machine shows in X-Go-Builder-Key.
 *
 * key(principal) is the lower-case hex of HMAC-MD5, keyed by the master key without surrounding white space, over the
 * principal's UTF-8 bytes: 32 characters. For registration the principal is the host type, so all machines of one type
 * share one key. A machine's own key has the same shape (32 lower-case hex digits) but is random, so a machine that
 * knows only the protocol can carry either.
 *
 * MD5 is what the other side computes; nothing newer here relies on it.
 */
import { createHmac } from "node:crypto";

/** The public master key of development mode. Whoever knows it can register; accepted only where that was asked for. */
export const DEV_MASTER_KEY = "gophers rule";

/** Length of any builder key in characters. */
export const KEY_LENGTH = 32;

export function builderKey(masterKey: string, principal: string): string {
  return createHmac("md5", masterKey.trim()).update(principal, "utf8").digest("hex");
}
