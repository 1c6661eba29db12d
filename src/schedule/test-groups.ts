/**
 * Which tests of a build a machine runs next, and how many machines are worth having, without a database.
 *
 * A free machine takes a group: the longest test that waits, and as many more, longest first, as fit into the time of a
 * group. That time is `targetMs`; towards the end it is a share of what is left for each machine, so that the last
 * groups are small and all machines end together. A test that is longer than that is a group of its own, and so is one
 * that is marked `alone`.
 *
 * When nothing waits any more, a machine without work runs once more what is slow elsewhere. The first of the two
 * machines to end it decides. So a machine that is slow, or may not come back, delays a build by little more than a
 * group.
 *
 * A test that never ran before is assumed to take `unknownMs`, corrected by the times of such tests in this build so
 * far.
 */
export interface WaitingTest {
  readonly number: number;
  readonly name: string;
  /** Null: the test never ran before. */
  readonly expectedMs: number | null;
  readonly alone: boolean;
}

/** All tests that wait. Of these a machine is offered the longest. */
export interface TestsLeft {
  readonly knownMs: number;
  readonly unknown: number;
  /** How many machines work on the tests, including the one that asks. */
  readonly machines: number;
}

export interface GroupRules {
  readonly targetMs: number;
  readonly unknownMs: number;
  /** Limits of one command: how many names it gets, and how many bytes they have. */
  readonly mostTests: number;
  readonly mostBytes: number;
}

/** A group takes at most this part of what is left for each machine. */
const SHARE = 1 / 2;
/** A group is not made smaller than this part of the target, since starting a command costs time too. */
const SMALLEST = 1 / 20;

/** The numbers of the tests to run next. Empty when none of `waiting` is left. A single test may exceed every limit. */
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

/** How long all waiting tests are expected to take on one machine. */
export function leftMs({ knownMs, unknown }: Omit<TestsLeft, "machines">, unknownMs: number): number {
  return knownMs + unknown * unknownMs;
}

/** How many groups there must be for one more machine, so that preparing it is worth the time. */
const GROUPS_WORTH_A_MACHINE = 2;

/** How many machines beside the first are worth having for what waits, at most `most`. */
export function usefulHelpers(left: number, targetMs: number, most: number): number {
  return Math.min(most, Math.floor(left / (GROUPS_WORTH_A_MACHINE * targetMs)));
}

/**
 * A group is slow when it has taken this many times the expected time, and this part of the target more, since
 * expectations may be wrong.
 */
const SLOW_TIMES = 2;
const SLOW_PART = 1 / 2;

/** How long a group, expected to take `groupMs`, may run before it is slow. */
export function slowAfter(groupMs: number, targetMs: number): number {
  return SLOW_TIMES * groupMs + SLOW_PART * targetMs;
}

/** How many tests without history must have run before their mean counts as much as the guess. */
const GUESS_WEIGHT = 5;

/**
 * How long a test that never ran is assumed to take, after `learned` such tests of this build took `learnedMs`
 * together.
 */
export function unknownTime(guessMs: number, learned: number, learnedMs: number): number {
  return Math.max(1, (GUESS_WEIGHT * guessMs + learnedMs) / (GUESS_WEIGHT + learned));
}

/** The median of `times`. Undefined for none. */
export function median(times: readonly number[]): number | undefined {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[middle - 1], sorted[middle]];
  if (high === undefined) return undefined;
  return sorted.length % 2 === 1 || low === undefined ? high : Math.round((low + high) / 2);
}

/** The size of a name as an argument or a line: its UTF-8, and one byte that separates it from the next. */
function bytesOf(name: string): number {
  let bytes = 1;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return bytes;
}
