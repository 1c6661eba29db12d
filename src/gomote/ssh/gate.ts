/**
 * Who is let in at the ssh gateway, and the certificates that they show.
 *
 * The user name is the instance; the key is a certificate that this farm signed for that instance and its owner (certificates.ts); the client
 * proves that it has the private key. Anything else is refused, and the log says why: whoever knocks is told nothing.
 */
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import type { Person } from "../../farm/person.ts";
import { type Instance, instanceNamed } from "../../store/gomote.ts";
import type { Sql } from "../../store/sql.ts";
import {
  authorizedKeyLine,
  type Certificate,
  readAuthorizedKey,
  readCertificate,
  readSignature,
  SshWireError,
} from "../../wire/gomote/ssh-wire.ts";
import type { Instances } from "../instances.ts";
import type { SshKeys } from "../rpc/faces.ts";
import { isOwners, refusal, signedFor } from "./certificates.ts";
import type { SshAuthority } from "./keys.ts";
import { isSignedBy } from "./signatures.ts";

/** What a client shows. */
export interface Shown {
  readonly user: string;
  readonly key: Uint8Array;
  /** Undefined: it only asks whether the key would do. */
  readonly proof: { readonly signature: Uint8Array; readonly over: Uint8Array } | undefined;
}

export interface GateDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly authority: SshAuthority;
  readonly instances: Pick<Instances, "use">;
}

export class Gate implements SshKeys {
  readonly #deps: GateDeps;

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  async sign(person: Person, instance: Instance, publicKey: Uint8Array): Promise<Uint8Array> {
    const { authority, clock } = this.#deps;
    try {
      const subject = { instance: instance.name, owner: person.id };
      const certificate = signedFor(readAuthorizedKey(publicKey), subject, authority, clock.now());
      return Buffer.from(`${authorizedKeyLine(certificate)}\n`);
    } catch (error) {
      if (!(error instanceof SshWireError)) throw error;
      throw new FarmError("bad-request", `Cannot sign the key: ${error.message}. Give one line as in id_ed25519.pub.`);
    }
  }

  /** The instance that a client may use, which is renewed by this; undefined: it may not. */
  async admit({ user, key, proof }: Shown): Promise<Instance | undefined> {
    const { sql, clock, log, authority, instances } = this.#deps;
    const refused = (reason: string) => {
      log.info({ user: user.slice(0, 100), reason }, "Refused an ssh client");
      return undefined;
    };
    let certificate: Certificate;
    try {
      certificate = readCertificate(key);
      const why = refusal(certificate, user, authority, clock.now());
      if (why !== undefined) return refused(why);
      if (proof && !isSignedBy(certificate.key, proof.over, readSignature(proof.signature)))
        return refused("it does not have the private key");
    } catch (error) {
      if (error instanceof SshWireError) return refused(error.message);
      throw error;
    }
    const instance = await instanceNamed(sql, user);
    if (!instance) return refused("there is no such instance");
    if (!isOwners(certificate, instance.owner)) return refused("the instance is another person's");
    try {
      return await instances.use({ id: instance.owner }, user);
    } catch (error) {
      if (error instanceof FarmError) return refused(messageOf(error));
      throw error;
    }
  }
}
