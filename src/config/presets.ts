/** Ready-made steps for `steps:`. */
import type { StepInput } from "./input.ts";
import { DOES_TARGET } from "./make-target.ts";

/** A step for each command, in order. */
export function script(...commands: readonly string[]): readonly StepInput[] {
  return commands.map((command) => ({ command }));
}

/**
 * One step for a repository that the farm knows nothing about. It looks for the usual files and runs the usual tests
 * for that kind of project, or says what to pass instead. The first kind found wins.
 */
export function autodetect(): readonly StepInput[] {
  return [{ name: "detect and test", command: DETECT }];
}

const DETECT = `${DOES_TARGET}run() { echo "+ $*"; "$@"; }
need() { command -v "$1" >/dev/null 2>&1 || { echo "Found $2, but this machine has no $1. Install it, or say what to run: -run 'COMMAND'" >&2; exit 1; }; }
if [ -f package.json ]; then
  need npm package.json
  if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then run npm ci; else run npm install; fi
  run npm test
elif [ -f go.mod ]; then
  need go go.mod
  run go build ./...
  run go test ./...
elif [ -f Cargo.toml ]; then
  need cargo Cargo.toml
  run cargo test
elif [ -f pyproject.toml ] || [ -f setup.py ]; then
  need python3 "a Python project"
  run python3 -m venv ../venv
  . ../venv/bin/activate
  run pip install . pytest
  run python -m pytest
elif [ -f Makefile ] || [ -f makefile ] || [ -f GNUmakefile ]; then
  need make "a Makefile"
  if does check; then run make check
  elif does test; then run make && run make test
  else run make; fi
else
  echo "Found no package.json, go.mod, Cargo.toml, pyproject.toml, setup.py or Makefile at the root of this repository." >&2
  echo "Say what to run: npm start -- -repo URL -run 'COMMAND' [-run 'COMMAND'], or write a farm.config.ts." >&2
  exit 1
fi
`;
