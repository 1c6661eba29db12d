/**
 * Whether a Makefile has a target that does something, as a function for a POSIX shell: `does check`.
 *
 * make succeeds even without a real test. If no rule makes `test`, but a file or folder of that name exists, make finds
 * nothing to do. If there is a `test.sh` or `test.c`, the built-in rules make a `test` of it.
 *
 * So the function asks make what it would do without the built-in rules. The target counts unless make answers that
 * there is no rule or nothing to do. Any other trouble shows when the test runs. Only the outermost make counts, whose
 * messages have no level: targets of subfolders may well have nothing to do.
 */
export const DOES_TARGET = `does() {
  ! MAKELEVEL=0 LC_ALL=C make -rn "$1" 2>&1 | grep -Eq "^([a-z]*make: )?([*]+ )?(No rule to make target .$1'[.]|don't know how to make $1[.]|Nothing to be done for .$1'|.$1' is up to date)"
}
`;
