import { stepHref } from "./data.ts";

/** The log of a group of tests has an address like a step's: `/b/12/group-345`. */
export function groupName(group: number): string {
  return `group-${group}`;
}

/** The group that an address names, or undefined for a step of any other name. */
export function groupOf(step: string): number | undefined {
  const [, digits] = /^group-([1-9]\d{0,14})$/.exec(step) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** The log of the group that ran a test, naming the test: a group may have run many. */
export function testLogHref(build: number, group: number, test: number): string {
  return `${stepHref(build, groupName(group))}?test=${test}`;
}
