/** The log of a group of tests has an address like a step's: `/b/12/group-345`. */
export function groupName(group: number): string {
  return `group-${group}`;
}

/** The group that an address names, or undefined for a step of any other name. */
export function groupOf(step: string): number | undefined {
  const [, digits] = /^group-([1-9]\d{0,14})$/.exec(step) ?? [];
  return digits === undefined ? undefined : Number(digits);
}
