/**
 * A `jest` that runs nothing and reports as the real one does: a file's name says which status it gets. It ends well unless a file has
 * failed, or is torn down badly, of which its report says nothing.
 */
export const STUB_JEST = `#!/usr/bin/env node
const { readdirSync, writeFileSync } = require("node:fs");
const { basename, resolve } = require("node:path");
const args = process.argv.slice(2);
const below = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = resolve(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : below(path);
    return /[.]test[.]js$/.test(path) ? [path] : [];
  });
if (args.includes("--listTests")) {
  console.error("jest-haste-map: Haste module naming collision: x");
  console.log(JSON.stringify(below(".")));
} else {
  const names = args.slice(args.indexOf("--runTestsByPath") + 1);
  const [file] = args.flatMap((arg) => (arg.startsWith("--outputFile=") ? [arg.slice("--outputFile=".length)] : []));
  const testResults = names.map((name) => {
    const status = basename(name).split(".")[0];
    const tests = { passed: ["passed"], focused: ["passed", "pending"], failed: ["passed", "failed"], skipped: [] }[status] || ["passed"];
    return {
      name: resolve(name),
      status: /^(focused|failed|skipped)$/.test(status) ? status : "passed",
      startTime: 1795690045877,
      endTime: 1795690045900,
      message: status === "failed" ? "  ● it failed" : "",
      summary: "",
      assertionResults: tests.map((each) => ({ status: each, failureMessages: each === "failed" ? ["Error: no"] : [] })),
    };
  });
  writeFileSync(file, JSON.stringify({ success: true, testResults }));
  process.exit(names.some((name) => /failed|badly/.test(name)) ? 1 : 0);
}
`;
