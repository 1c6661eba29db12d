/**
 * Checks whether a machine does what every build needs. It is emptied, a small tree is written, the platform's shell
 * runs a command there, and the command must print what was written. Every failure is thrown as a FarmError in words
 * for the machine's owner.
 */
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import type { Clock } from "../farm/clock.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import { tarEnd, tarHeader, tarPadding } from "../wire/tar/tar-writer.ts";
import type { MachineSession } from "./machine-session.ts";

/** The limit of the whole check. */
export const PROBE_LIMIT: Ms = minutes(2);
const FOLDER = "probe";
const FILE = "hello.txt";
const OUTPUT_LIMIT = 64 * 1024;

export type Probed = Pick<MachineSession, "name" | "gone"> & {
  readonly client: Pick<MachineSession["client"], "cleanUp" | "writeTgz" | "exec">;
};

/** Resolves with how long the check took. `shell`: the program and flags that run a command's text on this platform. */
export async function probe(machine: Probed, shell: readonly string[], clock: Clock, signal: AbortSignal): Promise<Ms> {
  const began = clock.monotonic();
  const word = randomBytes(16).toString("hex");
  const tooLong = new FarmError("timed-out", `it took longer than ${PROBE_LIMIT / 1000} s`);
  let doing = "emptying its work folder";
  const work = async (limited: AbortSignal): Promise<void> => {
    const { client } = machine;
    await client.cleanUp(limited);
    doing = "writing a small tree";
    await client.writeTgz(FOLDER, Readable.from([tree(word)]), limited);
    const show = shell[0] === "cmd" ? `type ${FILE}` : `cat ${FILE}`;
    doing = `running ${JSON.stringify(show)}`;
    const [cmd = "", ...args] = [...shell, show];
    let output = "";
    const onOutput = (chunk: Buffer): void => {
      if (output.length < OUTPUT_LIMIT) output += chunk.toString("latin1");
    };
    const end = await client.exec({ cmd, args, dir: FOLDER, env: [], path: [] }, onOutput, limited);
    if (!end.ok) throw new FarmError("machine-broken", `the command ended with ${end.state}`);
    if (!output.includes(word)) throw new FarmError("machine-broken", "it did not print what was written");
  };
  try {
    await within(clock, PROBE_LIMIT, [signal, machine.gone], tooLong, work);
    return ms(clock.monotonic() - began);
  } catch (error) {
    const code = error instanceof FarmError ? error.code : "internal";
    throw new FarmError(code, `${doing}: ${messageOf(error)}`, { cause: error });
  }
}

/** The archive of a tree of one file, which holds `word`. */
function tree(word: string): Buffer {
  const content = Buffer.from(`${word}\n`);
  const header = tarHeader({ type: "file", name: FILE, mode: 0o644, size: content.length, mtime: 0 });
  return gzipSync(Buffer.concat([header, content, tarPadding(content.length), tarEnd()]));
}
