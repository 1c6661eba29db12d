/** What `npmPackage()` runs on machines, as the text of a `node -e` (npm-tests/npm-tests.ts). */
import { install, list, runTests } from "../../npm-tests/npm-tests.ts";
import type { TestsAre } from "../../npm-tests/runner.ts";

const [mode, tests, results, ...names] = process.argv.slice(1) as [string, TestsAre, string, ...string[]];
/** Of a list, so that what a runner warns of is no name. By hand there is none. */
const mark = process.env.BARNRAISER_MARK;

function main(): boolean {
  switch (mode) {
    case "install":
      return install();
    case "list":
      for (const name of list(tests)) console.log(mark === undefined ? name : `${mark} name ${name}`);
      return true;
    default:
      return runTests(tests, results, names);
  }
}

try {
  process.exitCode = main() ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
