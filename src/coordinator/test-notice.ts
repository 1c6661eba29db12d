/**
 * `coordinator -test-notice`: sends one message to each operator of the configuration, and says how each sending ended.
 */
import { dirname, resolve } from "node:path";
import type { Clock } from "../farm/clock.ts";
import { messageOf } from "../farm/errors.ts";
import { send } from "../notices/channels.ts";
import { testMessage } from "../notices/message.ts";
import { recipientKey, recipientLabel } from "../notices/recipients.ts";
import { secretReader } from "../source/secrets.ts";
import { readFarm } from "./config-file.ts";

/** Sends the messages. Exit status 0: everybody was reached; 2: somebody was not, or nobody is configured. */
export async function testNotice(
  file: string,
  farmName: string,
  clock: Clock,
  out: { write(text: string): unknown },
): Promise<0 | 2> {
  const farm = await readFarm({ file }, clock);
  const { operators, mail } = farm.notify;
  if (operators.length === 0) {
    out.write(`Cannot tell anybody: ${file} has no notify.operators. Name somebody there, and try again.\n`);
    return 2;
  }
  const folder = dirname(resolve(file));
  const deps = { clock, secret: secretReader(folder, process.env), file: (path: string) => resolve(folder, path) };
  const place = { farm: farmName, url: farm.publicUrl };
  const now = clock.now();
  let status: 0 | 2 = 0;
  for (const recipient of operators) {
    const label = recipientLabel(recipientKey(recipient));
    try {
      await send(deps, recipient, mail, place, testMessage(place, now), Math.floor(now / 1000), AbortSignal.any([]));
      out.write(`told ${label}\n`);
    } catch (error) {
      out.write(`could not tell ${label}: ${messageOf(error)}\n`);
      status = 2;
    }
  }
  return status;
}
