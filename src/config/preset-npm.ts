/**
 * `npmPackage()`: a package for Node, tested file by file or workspace by workspace.
 *
 *   npm ci          or npm install, where there is no lock file
 *   build           `npm run build`, where there is such a script
 *   list            the test files, as the package's own test runner finds them; or its workspaces; or the one name
 *                   "npm test"
 *   run             the runner with these files; their results are written as JUnit XML
 *
 * Only the machine can tell which runner the package has. So a program of ours (npm-tests/npm-tests.ts) finds it there,
 * run by the machine's own node.
 */
import type { BuilderInput } from "./input.ts";

/** The text of that program. scripts/npm-tests.ts puts it here. */
declare const NPM_TESTS: string;

export interface NpmPackageOptions {
  /**
   * What counts as one test. `files`: each test file, if the farm knows the runner. `workspaces`: each workspace that
   * has a test script. `script`: all of `npm test`. Default `files`.
   */
  readonly tests?: "files" | "workspaces" | "script";
  /** Commands between `npm ci` and the tests. Default: `npm run build --if-present`. */
  readonly build?: readonly string[];
}

/** The fields of a builder for such a package, to be spread into it. */
export function npmPackage(options: NpmPackageOptions = {}): Pick<BuilderInput, "steps" | "tests" | "snapshot"> {
  const { tests = "files", build = ["npm run build --if-present"] } = options;
  const program = (...args: string[]): readonly string[] => ["node", "-e", NPM_TESTS, "--", ...args];
  return {
    steps: [{ name: "npm ci", command: program("install") }, ...build.map((command) => ({ command }))],
    tests: {
      list: { name: "list tests", command: program("list", tests) },
      run: { name: "test", command: program("run", tests, RESULTS) },
      results: { junit: RESULTS },
    },
    snapshot: {
      exclude: [`${RESULTS_DIR}/`, ...["cache", "vite", "vite-temp"].map((name) => `**/node_modules/.${name}/`)],
    },
  };
}

/** A folder of its own, since a machine with the original agent can only return whole folders. */
const RESULTS_DIR = "barnraiser-junit";
const RESULTS = `${RESULTS_DIR}/results.xml`;
