/** Renews the certificate in time: looks once a day whether it expires soon. A coordinator may run for years. */
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import { type Certificate, type CertificateOptions, certificate } from "./certificate.ts";

export const CERTIFICATE_LOOK_EVERY: Ms = minutes(24 * 60);

export interface CertificateKeeperOptions {
  readonly certificate: Omit<CertificateOptions, "now">;
  readonly clock: Clock;
  readonly log: Log;
  /**
   * Receives the certificate to serve from now on: a renewed one, or the operator's own after its files have changed.
   */
  readonly renew: (certificate: Certificate) => void | Promise<void>;
}

export class CertificateKeeper implements AsyncDisposable {
  readonly #options: CertificateKeeperOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, log, renew } = this.#options;
    for (;;) {
      await clock.sleep(CERTIFICATE_LOOK_EVERY, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        await renew(await certificate({ ...this.#options.certificate, now: clock.now() }));
      } catch (error) {
        log.error({ error: messageOf(error) }, "Could not renew the certificate; the old one stays");
      }
    }
  }
}
