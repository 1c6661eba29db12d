import { X509Certificate } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { epochMs, ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { certificate } from "./certificate.ts";
import { CERTIFICATE_LOOK_EVERY, CertificateKeeper } from "./certificate-keeper.ts";

test("CertificateKeeper hands over a renewed certificate before the old one ends", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-keeper-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const clock = new FakeClock(epochMs(Date.now()));
  const first = await certificate({ folder, names: [], now: clock.now() });
  const served: string[] = [];
  await using _keeper = new CertificateKeeper({
    certificate: { folder, names: [] },
    clock,
    log: quiet,
    renew: ({ cert }) => void served.push(cert),
  });
  await clock.advance(CERTIFICATE_LOOK_EVERY);
  await expect.poll(() => served).toEqual([first.cert]);
  clock.jump(ms(new X509Certificate(first.cert).validToDate.getTime() - clock.now() - CERTIFICATE_LOOK_EVERY * 30));
  await clock.advance(CERTIFICATE_LOOK_EVERY);
  await expect.poll(() => served.length).toBe(2);
  expect(new X509Certificate(served[1] ?? "").validToDate.getTime()).toBeGreaterThan(
    clock.now() + CERTIFICATE_LOOK_EVERY * 300,
  );
});
