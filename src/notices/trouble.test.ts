import { expect, test } from "vitest";
import { type EpochMs, epochMs, minutes, plus } from "../farm/ids.ts";
import { type Changes, decide, type Facts, GATHER, type Known, type Seen } from "./trouble.ts";

const NOON = epochMs(Date.UTC(2026, 10, 23, 12));
const at = (minute: number): EpochMs => plus(NOON, minutes(minute));

function missing(id: number, since: EpochMs): Seen {
  const about = { hostType: "host-a", name: `m${id}`, detail: "hung up" };
  return { kind: "missing", subject: `machine:${id}`, since, about, due: { at: plus(since, minutes(15)) } };
}

function facts(seen: readonly Seen[], over: Partial<Facts> = {}): Facts {
  return { seen, hasRecipient: () => true, isWell: () => true, judges: () => true, ...over };
}

/** What is written down after `changes`, as the database has it. */
function after(known: readonly Known[], changes: Changes, now: EpochMs): Known[] {
  const same = (a: { kind: string; subject: string }, b: { kind: string; subject: string }) =>
    a.kind === b.kind && a.subject === b.subject;
  return [...known, ...changes.noticed.map((t): Known => ({ ...t, noticedAt: now, toldAt: null, wellAt: null }))]
    .map((row) => (changes.told.some((t) => same(t, row)) ? { ...row, toldAt: now } : row))
    .map((row) => {
      const moved = changes.wellAt.find(({ known: k }) => same(k, row));
      return moved ? { ...row, wellAt: moved.at } : row;
    })
    .filter((row) => ![...changes.over, ...changes.moot].some((gone) => same(gone, row)));
}

/** Looks at each of `moments`, in order; gives what people heard: `told m1 m2`, `over m1`. */
function heard(moments: readonly (readonly [now: EpochMs, facts: Facts])[]): string[] {
  let known: Known[] = [];
  const words: string[] = [];
  for (const [now, what] of moments) {
    const changes = decide(what, known, now);
    const minute = (now - NOON) / 60_000;
    if (changes.told.length > 0) words.push(`${minute}: told ${changes.told.map((t) => t.about.name).join(" ")}`);
    if (changes.over.length > 0) words.push(`${minute}: over ${changes.over.map((t) => t.about.name).join(" ")}`);
    known = after(known, changes, now);
  }
  return words;
}

test("a machine that is missing for longer than allowed is told once, and its return once", () => {
  const gone = facts([missing(1, NOON)]);
  expect(
    heard([
      [at(1), gone],
      [at(15), gone],
      [at(16), gone],
      [at(17), gone],
      [at(180), facts([])],
      [at(181), facts([])],
      [at(182), facts([])],
    ]),
  ).toEqual(["16: told m1", "181: over m1"]);
});

test("who comes back in time is not told of at all", () => {
  expect(
    heard([
      [at(1), facts([missing(1, NOON)])],
      [at(14), facts([])],
      [at(40), facts([])],
    ]),
  ).toEqual([]);
});

test("a moment of being back changes nothing", () => {
  const gone = facts([missing(1, NOON)]);
  expect(
    heard([
      [at(0), gone],
      [at(16), gone],
      [at(20), facts([])],
      [at(20.5), facts([missing(1, at(20.2))])],
      [at(40), facts([missing(1, at(20.2))])],
      [at(50), facts([])],
      [at(51), facts([])],
    ]),
  ).toEqual(["16: told m1", "51: over m1"]);
});

test("what goes wrong together is told together", () => {
  const all = Array.from({ length: 5 }, (_, id) => missing(id, plus(NOON, minutes(id / 5))));
  expect(heard([15, 15.4, 15.9, 16, 17].map((minute) => [at(minute), facts(all)] as const))).toEqual([
    "16: told m0 m1 m2 m3 m4",
  ]);
  expect(GATHER).toBe(60_000);
});

test("what nobody was told of is told once there is somebody, holds up no gathering, and ends without a word before", () => {
  const [first, second] = [missing(1, NOON), missing(2, at(30))];
  const none = facts([first], { hasRecipient: () => false });
  expect(
    heard([
      [at(0), none],
      [at(60), none],
      [at(61), facts([])],
      [at(62), facts([])],
    ]),
  ).toEqual([]);
  expect(
    heard([
      [at(0), none],
      [at(60), none],
      [at(61), facts([first])],
      [at(62), facts([])],
      [at(63), facts([])],
    ]),
  ).toEqual(["61: told m1", "63: over m1"]);
  const others = facts([first, second, missing(3, at(30.5))], { hasRecipient: ({ about }) => about.name !== "m1" });
  expect(heard([0, 45, 45.5, 46].map((minute) => [at(minute), others] as const))).toEqual(["46: told m2 m3"]);
});

test("what is not expected any more ends without a word, and what another coordinator judges is left alone", () => {
  const gone = facts([missing(1, NOON)]);
  const first: [EpochMs, Facts][] = [
    [at(0), gone],
    [at(16), gone],
  ];
  expect(heard([...first, [at(20), facts([], { isWell: () => false })], [at(30), facts([])]])).toEqual(["16: told m1"]);
  expect(
    heard([...first, [at(20), facts([], { judges: () => false })], [at(30), facts([])], [at(31), facts([])]]),
  ).toEqual(["16: told m1", "31: over m1"]);
});

test("a span counts from when it was noticed", () => {
  const about = { hostType: "host-a", name: "host-a", detail: "never dialled in" };
  const short: Seen = { kind: "short", subject: "host:host-a", since: NOON, about, due: { after: minutes(15) } };
  expect(heard([3, 10, 17, 18, 19, 20].map((minute) => [at(minute), facts([short])] as const))).toEqual([
    "19: told host-a",
  ]);
});
