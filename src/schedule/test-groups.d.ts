/**
 * Which tests of a build a machine runs next, and how many machines are worth having, without a database.
 *
 * A machine that became free takes a group: the longest test that waits, and as many more, longest first, as still fit into the time
 * that a group may take. That is `targetMs`, and towards the end a share of what is left for each machine, so that the last groups are
 * small and all machines end together. A test longer than that is a group of its own, as is one that is marked `alone`.
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
/** The numbers of the tests to run next; empty when none of `waiting` is left. A test of its own may break every limit. */
export declare function nextGroup(waiting: readonly WaitingTest[], left: TestsLeft, rules: GroupRules): number[];
/** What all that waits is expected to take on one machine. */
export declare function leftMs({ knownMs, unknown }: Omit<TestsLeft, "machines">, unknownMs: number): number;
/** How many machines beside the first are worth having for what waits, at most `most`. */
export declare function usefulHelpers(left: number, targetMs: number, most: number): number;
/** What a test that never ran is taken to need, after `learned` such tests of this build took `learnedMs` together. */
export declare function unknownTime(guessMs: number, learned: number, learnedMs: number): number;
/** The middle of `times`; undefined for none. */
export declare function median(times: readonly number[]): number | undefined;
