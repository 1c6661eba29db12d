/**
 * Commits as `git log` writes them.
 *
 *   hash LF parents, by spaces LF author LF mail LF seconds since 1970 LF message    ended by NUL
 *
 * All after the parents is what some program put into the commit: bytes that are not UTF-8, dates from other geological
 * ages, messages of megabytes. What this file returns fits PostgreSQL and JavaScript.
 */
import { type EpochMs, epochMs } from "../farm/ids.ts";
import type { FoundCommit } from "../store/commits.ts";

export const LOG_ARGS: readonly string[] = ["-z", "--encoding=UTF-8", "--format=%H%n%P%n%an%n%ae%n%ct%n%B"];

/** A longer message is cut off, with a note. */
const LONGEST_MESSAGE = 64 * 1024;
const LONGEST_NAME = 500;
/** The last millisecond that a date may have, on 9999-12-31: later dates are written in another form. */
const LAST_DATE = 253_402_300_799_000;

/** Reads the commits. While reading it holds one commit, and of that no more than is kept. */
export async function readCommitLog(output: AsyncIterable<Buffer>): Promise<FoundCommit[]> {
  const commits: FoundCommit[] = [];
  let parts: Buffer[] = [];
  let held = 0;
  const keep = (part: Buffer): void => {
    if (part.length === 0 || held > 2 * LONGEST_MESSAGE) return;
    parts.push(part);
    held += part.length;
  };
  const finish = (): void => {
    const commit = readCommit(Buffer.concat(parts));
    if (commit) commits.push(commit);
    parts = [];
    held = 0;
  };
  for await (const chunk of output) {
    let from = 0;
    for (let nul = chunk.indexOf(0); nul >= 0; nul = chunk.indexOf(0, from)) {
      keep(chunk.subarray(from, nul));
      finish();
      from = nul + 1;
    }
    keep(chunk.subarray(from));
  }
  finish(); // the last has no NUL behind it
  return commits;
}

function readCommit(record: Buffer): FoundCommit | undefined {
  const text = record.toString("utf8");
  const [hash = "", parents = "", author = "", mail = "", seconds = ""] = text.split("\n", 5);
  if (!/^[0-9a-f]{40,64}$/.test(hash)) return undefined;
  const message = text.split("\n").slice(5).join("\n").replace(/\n+$/, "");
  return {
    hash,
    parents: parents.split(" ").filter((parent) => parent !== ""),
    authorName: author.slice(0, LONGEST_NAME).toWellFormed(),
    authorEmail: mail.slice(0, LONGEST_NAME).toWellFormed(),
    committedAt: dateOf(seconds),
    message:
      message.length > LONGEST_MESSAGE
        ? `${message.slice(0, LONGEST_MESSAGE).toWellFormed()}\n[cut off here]`
        : message,
  };
}

function dateOf(seconds: string): EpochMs {
  const value = Number(seconds) * 1000;
  return epochMs(Number.isFinite(value) ? Math.min(Math.max(value, 0), LAST_DATE) : 0);
}
