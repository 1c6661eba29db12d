/** What the methods of the service need of others, each as narrow as its use. */
import type { Readable } from "node:stream";
import type { Person } from "../../farm/person.ts";
import type { Instance } from "../../store/gomote.ts";

/** Whoever shows a token. */
export interface Identify {
  /** Throws FarmError `unauthenticated` saying why the token lets nobody in. */
  identify(bearer: string): Promise<Person>;
}

/** Files on their way between a person and a machine; each belongs to one person and is gone soon. */
export interface Transfers {
  /** Where a form with a file can be posted to: `fields` first, then `file`. `url` and `objectName` together name what was posted. */
  upload(
    person: Person,
  ): Promise<{ readonly url: string; readonly fields: Readonly<Record<string, string>>; readonly objectName: string }>;
  /** Keeps all of `body` under a URL from which whoever has it can fetch it for ten minutes, as `fileName`. */
  keep(person: Person, fileName: string, body: Readable, signal: AbortSignal): Promise<string>;
  /**
   * What a URL holds: something of `person`'s that was uploaded, or what the world has there, within the farm's policy. Must be read or
   * destroyed. Throws FarmError `bad-request`, `forbidden`, `not-found` (404 and the like included) or `unavailable`.
   */
  open(person: Person, url: string, signal: AbortSignal): Promise<Readable>;
}

export interface SshKeys {
  /** One line of authorized_keys in, a certificate for `instance` as such a line out. Throws FarmError `bad-request`. */
  sign(person: Person, instance: Instance, publicKey: Uint8Array): Promise<Uint8Array>;
}
