/**
 * Which tests of a build a machine runs next, and how many machines are worth having, without a database.
 *
 * A machine that became free takes a group: the longest test that waits, and as many more, longest first, as still fit into the time
 * that a group may take. That is `targetMs`, and towards the end a share of what is left for each machine, so that the last groups are
 * small and all machines end together. A test longer than that is a group of its own, as is one that is marked `alone`.
 *
 * When nothing waits any more, a machine that has nothing else to do runs what is slow elsewhere once more: whoever ends it first decides.
 * So one slow machine, or one that may come back or not, holds a build up for little more than a group.
 *
 * Tests that never ran before are taken to need `unknownMs`, corrected by what such tests have needed in this build so far.
 */
export interface WaitingTest {
  readonly number: number;
  readonly name: string;
  /** null: it never ran before. */
  readonly expectedMs: number | null;
  readonly alone: boolean;
}

/** All that waits, of which a machine is offered the longest. */
export interface TestsLeft {
  readonly knownMs: number;
  readonly unknown: number;
  /** That work on it, the one that asks included. */
  readonly machines: number;
}

export interface GroupRules {
  readonly targetMs: number;
  readonly unknownMs: number;
  /** Limits of one command: so many names, and so many bytes of them. */
  readonly mostTests: number;
  readonly mostBytes: number;
}

/** A group takes at most this part of what is left for each machine. */
const SHARE = 1 / 2;
/** Smaller than this part of the target no group is made on purpose: starting a command costs something too. */
const SMALLEST = 1 / 20;

/** The numbers of the tests to run next; empty when none of `waiting` is left. A test of its own may break every limit. */
export function nextGroup(waiting: readonly WaitingTest[], left: TestsLeft, rules: GroupRules): number[] {
  const expected = (test: WaitingTest): number => test.expectedMs ?? rules.unknownMs;
  const order = waiting.toSorted((a, b) => expected(b) - expected(a) || a.number - b.number);
  const [first] = order;
  if (first === undefined) return [];
  if (first.alone) return [first.number];
  const share = (leftMs(left, rules.unknownMs) * SHARE) / Math.max(1, left.machines);
  const limit = Math.min(rules.targetMs, Math.max(share, rules.targetMs * SMALLEST));
  const group: number[] = [];
  let [sum, bytes] = [0, 0];
  for (const test of order) {
    if (test.alone) continue;
    if (group.length >= rules.mostTests) break;
    const size = bytesOf(test.name);
    if (group.length > 0 && (sum + expected(test) > limit || bytes + size > rules.mostBytes)) continue;
    group.push(test.number);
    sum += expected(test);
    bytes += size;
  }
  return group;
}

/** What all that waits is expected to take on one machine. */
export function leftMs({ knownMs, unknown }: Omit<TestsLeft, "machines">, unknownMs: number): number {
  return knownMs + unknown * unknownMs;
}

/** A machine more is worth its preparation when there are at least so many groups for it. */
const GROUPS_WORTH_A_MACHINE = 2;

/** How many machines beside the first are worth having for what waits, at most `most`. */
export function usefulHelpers(left: number, targetMs: number, most: number): number {
  return Math.min(most, Math.floor(left / (GROUPS_WORTH_A_MACHINE * targetMs)));
}

/** A group is slow when it has taken so many times what was expected, and this part of the target more: guesses may be wrong. */
const SLOW_TIMES = 2;
const SLOW_PART = 1 / 2;

/** After so long a group, expected to take `groupMs`, is slow. */
export function slowAfter(groupMs: number, targetMs: number): number {
  return SLOW_TIMES * groupMs + SLOW_PART * targetMs;
}

/** So many tests without history must have run before their mean counts as much as the guess. */
const GUESS_WEIGHT = 5;

/** What a test that never ran is taken to need, after `learned` such tests of this build took `learnedMs` together. */
export function unknownTime(guessMs: number, learned: number, learnedMs: number): number {
  return Math.max(1, (GUESS_WEIGHT * guessMs + learnedMs) / (GUESS_WEIGHT + learned));
}

/** The middle of `times`; undefined for none. */
export function median(times: readonly number[]): number | undefined {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[middle - 1], sorted[middle]];
  if (high === undefined) return undefined;
  return sorted.length % 2 === 1 || low === undefined ? high : Math.round((low + high) / 2);
}

/** As an argument or a line: UTF-8, and one byte between two. */
function bytesOf(name: string): number {
  let bytes = 1;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return bytes;
}
