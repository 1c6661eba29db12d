/**
 * `makeProject()`: a project with a Makefile.
 *
 *   configure   ./configure, where there is one
 *   make        make -j
 *   tests       the targets that are given, a test each; else the first of `check` and `test` that does something
 *
 * Without any of them there is nothing to test, and that is said: a builder that tests nothing should not look as if it did.
 */
import type { BuilderInput } from "./input.ts";
import { DOES_TARGET } from "./make-target.ts";

export interface MakeProjectOptions {
  /** Arguments of ./configure. */
  readonly configure?: readonly string[];
  /** Arguments of make, such as `-j8` or `V=1`. Default: `-j2`. */
  readonly make?: readonly string[];
  /** Targets that are tests, each by itself. Default: `check`, or else `test`. */
  readonly targets?: readonly string[];
}

/** To be spread into a builder. */
export function makeProject(options: MakeProjectOptions = {}): Pick<BuilderInput, "steps" | "tests" | "snapshot"> {
  const { configure = [], make = ["-j2"], targets } = options;
  return {
    steps: [
      { name: "configure", command: ["sh", "-ec", CONFIGURE, "configure", ...configure] },
      { name: "make", command: ["make", ...make] },
    ],
    tests: {
      list: targets ?? { name: "list tests", command: ["sh", "-ec", TARGETS] },
      run: { name: "test", command: ["make"] },
      alone: "**", // targets of one make would run in whatever order suits it
    },
    // What tests of Automake write beside them. Their *.log are written anew, and such files may as well be somebody's sources.
    snapshot: { exclude: ["*.trs", "test-suite.log"] },
  };
}

const CONFIGURE = `if [ -x configure ]; then exec ./configure "$@"; else echo "There is no ./configure here; nothing to do."; fi`;

const TARGETS = `${DOES_TARGET}for target in check test; do
  if does "$target"; then echo "$target"; exit; fi
done
echo "Found neither a target check nor a target test that does something. Say which targets are tests: makeProject({ targets: [...] })" >&2
exit 1
`;
