/** What the methods of the service need of others, each as narrow as its use. */
import type { Person } from "../../farm/person.ts";
import type { Instance } from "../../store/gomote.ts";

/** Whoever calls, and the number of the token that they showed. */
export interface Caller extends Person {
  readonly token?: string;
}

/** Whoever shows a token. */
export interface Identify {
  /** Throws FarmError `unauthenticated` saying why the token lets nobody in. */
  identify(bearer: string): Promise<Caller>;
}

export interface SshKeys {
  /** One line of authorized_keys in, a certificate for `instance` as such a line out. Throws FarmError `bad-request`. */
  sign(caller: Caller, instance: Instance, publicKey: Uint8Array): Promise<Uint8Array>;
}
