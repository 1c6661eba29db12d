/**
 * Who is let in at the ssh gateway, and the certificates that they show.
 *
 * The user name is the instance. The key is a certificate that this farm signed for that instance and its owner
 * (certificates.ts), at the request of a token that is still valid. The client proves that it has the private key.
 * Anything else is refused.
 *
 * A client that shows a certificate is told why it is refused. That says only what the certificate itself says, or
 * something about an instance that the farm certified for this client. A client that shows a bare key is told nothing.
 */
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Instance, instanceNamed } from "../../store/gomote.ts";
import { whyTokenEnded } from "../../store/people.ts";
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
import type { Caller, SshKeys } from "../rpc/faces.ts";
import { isOwners, refusal, signedFor, tokenOf } from "./certificates.ts";
import type { SshAuthority } from "./keys.ts";
import { isSignedBy } from "./signatures.ts";

/** What a client shows. */
export interface Shown {
  readonly user: string;
  readonly key: Uint8Array;
  /** The proof that the client has the private key; undefined: it only asks whether the key would do. */
  readonly proof: { readonly signature: Uint8Array; readonly over: Uint8Array } | undefined;
}

export type Admission =
  | {
      readonly ok: true;
      readonly instance: Instance;
      /** The number of the token that asked for the certificate. */
      readonly token: string | undefined;
    }
  /** `told`: the reason as the client may know it; undefined: it is told nothing. */
  | { readonly ok: false; readonly told: string | undefined };

export interface GateDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly authority: SshAuthority;
  readonly instances: Pick<Instances, "find" | "use">;
}

export class Gate implements SshKeys {
  readonly #deps: GateDeps;

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  async sign({ id: owner, token }: Caller, instance: Instance, publicKey: Uint8Array): Promise<Uint8Array> {
    const { authority, clock } = this.#deps;
    try {
      const subject = { instance: instance.name, owner, token };
      const certificate = signedFor(readAuthorizedKey(publicKey), subject, authority, clock.now());
      return Buffer.from(`${authorizedKeyLine(certificate)}\n`);
    } catch (error) {
      if (!(error instanceof SshWireError)) throw error;
      throw new FarmError("bad-request", `Cannot sign the key: ${error.message}. Give one line as in id_ed25519.pub.`);
    }
  }

  /** The instance that a client may use. A client that has proved its key renews the instance by that. */
  async admit({ user, key, proof }: Shown): Promise<Admission> {
    const { sql, clock, log, authority, instances } = this.#deps;
    const refused = (reason: string, isTold = true): Admission => {
      log.info({ user: user.slice(0, 100), reason }, "Refused an ssh client");
      return { ok: false, told: isTold ? reason : undefined };
    };
    let certificate: Certificate;
    try {
      certificate = readCertificate(key);
    } catch (error) {
      if (error instanceof SshWireError) return refused(error.message, false);
      throw error;
    }
    try {
      const why = refusal(certificate, user, authority, clock.now());
      if (why !== undefined) return refused(why);
      if (proof && !isSignedBy(certificate.key, proof.over, readSignature(proof.signature)))
        return refused("you do not have its private key");
    } catch (error) {
      if (error instanceof SshWireError) return refused(error.message);
      throw error;
    }
    const instance = await instanceNamed(sql, user);
    if (!instance) return refused("its instance has ended");
    const { owner } = instance;
    if (!isOwners(certificate, owner)) return refused("the instance is another person's");
    const token = tokenOf(certificate);
    const ended = token && (await whyTokenEnded(sql, token, clock.now()));
    if (ended)
      return refused(`the token that it was asked for with ${ended === "revoked" ? "was revoked" : "has expired"}`);
    try {
      const found = await (proof ? instances.use({ id: owner }, user) : instances.find({ id: owner }, user));
      return { ok: true, instance: found, token };
    } catch (error) {
      if (error instanceof FarmError) return refused(messageOf(error));
      throw error;
    }
  }
}
