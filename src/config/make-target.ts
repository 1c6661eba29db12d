/**
 * Whether a Makefile has a target that does something, as a function for a POSIX shell: `does check`.
 *
 * make is content with less than a test. Where no rule makes `test`, but a file or a folder of that name is there, there is nothing to be done, and
 * where a `test.sh` or `test.c` is, its built-in rules make a `test` of it. So make is asked what it would do without these rules, and told to
 * do it only where it does not say that there is no rule or nothing to do. Whatever else is wrong, the test itself tells. Only the outermost make
 * counts, whose messages have no level: targets of subfolders may well have nothing to do.
 */
export const DOES_TARGET = `does() {
  ! MAKELEVEL=0 LC_ALL=C make -rn "$1" 2>&1 | grep -Eq "^([a-z]*make: )?([*]+ )?(No rule to make target .$1'[.]|don't know how to make $1[.]|Nothing to be done for .$1'|.$1' is up to date)"
}
`;
