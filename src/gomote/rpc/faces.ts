/** What the methods of the services need of other parts, each as narrow as its use. */
import type { Person } from "../../farm/person.ts";
import type { Instance } from "../../store/gomote.ts";

/** The person who calls, and the number of the token that they showed. */
export interface Caller extends Person {
  readonly token?: string;
}

/** Finds the person who shows a token. */
export interface Identify {
  /** Throws FarmError `unauthenticated` saying why the token lets nobody in. */
  identify(bearer: string): Promise<Caller>;
}

export interface SshKeys {
  /**
   * Signs a certificate of a public key for `instance`; each is one line as in authorized_keys. Throws FarmError
   * `bad-request`.
   */
  sign(caller: Caller, instance: Instance, publicKey: Uint8Array): Promise<Uint8Array>;
}
