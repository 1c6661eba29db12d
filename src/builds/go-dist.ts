/**
 * The names of the tests of Go's own tree, as `go tool dist test --list` prints them.
 *
 * Until Go 1.20 they were `go_test:net/http`, `test:0_10`, `api`; since Go 1.21 they are `net/http`,
 * `cmd/internal/testdir:0_10`, `cmd/api:check`. A test is run under the name that was printed, and its times are kept
 * under it. Patterns in a configuration mean the older name, which says what kind of test it is. So a pattern means the
 * same tests in every version.
 */

/**
 * Groups of packages and variants, by their names since Go 1.21. Of the names that fit none of these, those with a
 * colon are the same in both versions, and those without are packages.
 */
const OLDER: readonly (readonly [newer: RegExp, older: string])[] = [
  [/^cmd\/internal\/testdir:(\d+_\d+)$/, "test:$1"],
  [/^cmd\/api(:check)?$/, "api"],
  [/^cmd\/internal\/bootstrap_test(:.*)?$/, "reboot"],
  [/^.*:moved_goroot$/, "moved_goroot"],
  [/^(.*):nolibgcc$/, "nolibgcc:$1"],
  [/^(.*):racebench$/, "go_test_bench:$1"],
  [/^.*:race$/, "race"],
];
/** Names from before Go 1.21: they begin with the kind of test, or are one of a few words that are no package. */
const IS_OLDER = /^(go_test|go_test_bench|test|nolibgcc|cgo_\w+|swig_\w+|doc_progs|fortran|misc)(:|$)/;
const WORDS = ["api", "reboot", "race", "moved_goroot"];

/** The older name of a test that was listed as `name`. */
export function olderName(name: string): string {
  if (IS_OLDER.test(name) || WORDS.includes(name)) return name;
  for (const [newer, older] of OLDER) if (newer.test(name)) return name.replace(newer, older);
  return name.includes(":") ? name : `go_test:${name}`;
}
