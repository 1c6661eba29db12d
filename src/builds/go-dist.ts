/**
 * The names of the tests of Go's own tree, as `go tool dist test --list` prints them.
 *
 * Until Go 1.20 they were `go_test:net/http`, `test:0_10`, `api`; since Go 1.21 they are `net/http`, `cmd/internal/testdir:0_10`,
 * `cmd/api:check`. A test is run, and its times are kept, by the name that was printed. Patterns in a configuration mean the older name of
 * each, which says what kind of test it is: so they mean the same tests whatever the version.
 */

/** Groups of packages and variants by the name that Go has for them since 1.21. What fits none of these is known by the name that it has. */
const OLDER: readonly (readonly [newer: RegExp, older: string])[] = [
  [/^cmd\/internal\/testdir:(\d+_\d+)$/, "test:$1"],
  [/^cmd\/api(:check)?$/, "api"],
  [/^cmd\/internal\/bootstrap_test(:.*)?$/, "reboot"],
  [/^.*:moved_goroot$/, "moved_goroot"],
  [/^(.*):nolibgcc$/, "nolibgcc:$1"],
  [/^(.*):racebench$/, "go_test_bench:$1"],
  [/^.*:race$/, "race"],
];
/** A name of before 1.21: it begins with its kind, or is one of a few words that are no package. */
const IS_OLDER = /^(go_test|go_test_bench|test|nolibgcc|cgo_\w+|swig_\w+|doc_progs|fortran|misc)(:|$)/;
const WORDS = ["api", "reboot", "race", "moved_goroot"];

/** The older name of a test that was listed as `name`. */
export function olderName(name: string): string {
  if (IS_OLDER.test(name) || WORDS.includes(name)) return name;
  for (const [newer, older] of OLDER) if (newer.test(name)) return name.replace(newer, older);
  return name.includes(":") ? name : `go_test:${name}`;
}
