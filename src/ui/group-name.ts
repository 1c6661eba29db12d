import { stepHref } from "./data.ts";

/** The name of a group of tests in addresses. Its log has an address like a step's: `/b/12/group-345`. */
export function groupName(group: number): string {
  return `group-${group}`;
}

/** The number of the group that an address names. Undefined: it is the name of a step. */
export function groupOf(step: string): number | undefined {
  const [, digits] = /^group-([1-9]\d{0,14})$/.exec(step) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** The address of the log of the group that ran a test. It names the test, since a group may have run many. */
export function testLogHref(build: number, group: number, test: number): string {
  return `${stepHref(build, groupName(group))}?test=${test}`;
}
