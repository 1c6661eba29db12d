import { expect, test } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { isMachineFine, isOwnRestart, mayGoOn } from "./broken-off.ts";

/** What breaks the work off: the caller's signal aborts, the machine is gone, or something is thrown. */
interface Break {
  readonly signal?: FarmError;
  readonly gone?: FarmError;
  readonly error?: unknown;
}

const RESUMES = { agent: "barnraiser", resumes: true } as const;
const OURS = { agent: "barnraiser", resumes: false } as const;
const ORIGINAL = { agent: "original", resumes: false } as const;

const stops = new FarmError("unavailable", "the coordinator was stopped");
const canceled = new FarmError("canceled", "canceled");
const lost = new FarmError("lease-lost", "the build was taken back");
const gone = new FarmError("machine-gone", "hung up");

function signalOf(reason: FarmError | undefined): AbortSignal {
  return reason === undefined ? new AbortController().signal : AbortSignal.abort(reason);
}

/** What holds then on a machine of this kind. */
function whatHolds(kind: typeof RESUMES | typeof OURS | typeof ORIGINAL, broken: Break): string {
  const machine = { ...kind, gone: signalOf(broken.gone) };
  const signal = signalOf(broken.signal);
  const error = broken.error ?? broken.signal ?? broken.gone;
  const held = [
    mayGoOn(machine, signal) ? ["may go on"] : [],
    isMachineFine(machine, signal, error) ? ["fine"] : [],
    isOwnRestart(signal, error) ? ["own restart"] : [],
  ];
  return held.flat().join(", ");
}

test.each<[what: string, broken: Break, resumes: string, ours: string, original: string]>([
  ["this coordinator stops", { signal: stops }, "may go on, fine, own restart", "fine, own restart", "own restart"],
  ["it stops and the machine is gone", { signal: stops, gone }, "may go on, own restart", "own restart", "own restart"],
  ["the build was canceled", { signal: canceled }, "fine", "fine", ""],
  ["the lease was lost", { signal: lost }, "fine", "fine", ""],
  ["the lease was lost and the machine is gone", { signal: lost, gone }, "", "", ""],
  ["the machine is gone", { gone }, "may go on", "", ""],
  ["the machine was too slow", { error: new FarmError("timed-out", "cleaning took longer than 10m") }, "", "", ""],
  ["the machine answered garbage", { error: new FarmError("machine-broken", "answered 500") }, "", "", ""],
  [
    "the coordinator ended that passed its connection on",
    { error: new FarmError("carrier-gone", "coordinator P1 ended") },
    "fine, own restart",
    "fine, own restart",
    "fine, own restart",
  ],
  ["the database is away", { error: new FarmError("unavailable", "no database") }, "fine", "fine", "fine"],
  ["our code failed", { error: new TypeError("x is undefined") }, "fine", "fine", "fine"],
])("mayGoOn(), isMachineFine() and isOwnRestart() when %s", (_, broken, resumes, ours, original) => {
  expect({
    resumes: whatHolds(RESUMES, broken),
    ours: whatHolds(OURS, broken),
    original: whatHolds(ORIGINAL, broken),
  }).toEqual({ resumes, ours, original });
});
