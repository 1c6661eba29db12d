/**
 * `makeProject()`: a project with a Makefile.
 *
 *   configure   ./configure, where there is one
 *   make        make -j
 *   tests       the given targets, each as a test; otherwise the first of `check` and `test` that does something
 *
 * If there is none, the log says that there is nothing to test: a builder that tests nothing must not look as if it
 * did.
 */
import type { BuilderInput } from "./input.ts";
import { DOES_TARGET } from "./make-target.ts";

export interface MakeProjectOptions {
  /** Arguments of ./configure. */
  readonly configure?: readonly string[];
  /** Arguments of make, such as `-j8` or `V=1`. Default: `-j2`. */
  readonly make?: readonly string[];
  /** Targets that are tests, each by itself. Default: `check`, otherwise `test`. */
  readonly targets?: readonly string[];
}

/** The fields of a builder for such a project, to be spread into it. */
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
      alone: "**", // make itself decides the order of the targets of one command
    },
    // Files that tests of Automake write beside the tests. Their *.log are written again anyway, and other *.log files
    // may be somebody's sources.
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
