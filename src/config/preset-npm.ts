/**
 * `npmPackage()`: a package for Node, tested file by file or workspace by workspace.
 *
 *   npm ci          or npm install, where there is no lock file
 *   build           `npm run build`, where there is such a script
 *   list            the test files, as the package's own test runner finds them; or its workspaces; or the one name "npm test"
 *   run             the runner with these files; what became of each is written as JUnit XML
 *
 * Which runner it is, is only known on the machine: vitest or jest where the package depends on it, node's own where its test script is
 * `node --test` and nothing but flags. Anything else is not guessed at: its whole test script is one test.
 */
import type { BuilderInput } from "./input.ts";

export interface NpmPackageOptions {
  /**
   * What is a test. `files`: each test file, where the runner is one that the farm knows. `workspaces`: each workspace that has a test
   * script. `script`: all of `npm test`. Default `files`.
   */
  readonly tests?: "files" | "workspaces" | "script";
  /** Commands between `npm ci` and the tests. Default: `npm run build --if-present`. */
  readonly build?: readonly string[];
}

/** To be spread into a builder. */
export function npmPackage(options: NpmPackageOptions = {}): Pick<BuilderInput, "steps" | "tests" | "snapshot"> {
  const { tests = "files", build = ["npm run build --if-present"] } = options;
  const node = (mode: string): readonly string[] => ["node", "-e", PROGRAM, "--", mode, tests];
  return {
    steps: [
      { name: "npm ci", command: ["node", "-e", PROGRAM, "--", "install"] },
      ...build.map((command) => ({ command })),
    ],
    tests: {
      list: { name: "list tests", command: node("list") },
      run: { name: "test", command: node("run") },
      results: { junit: RESULTS },
    },
    snapshot: { exclude: [`${RESULTS_DIR}/`, "node_modules/.cache/"] },
  };
}

/** A folder of its own: a machine of the original agent can only give whole folders. */
const RESULTS_DIR = "barnraiser-junit";
const RESULTS = `${RESULTS_DIR}/results.xml`;

/** Run by the machine's node, of whatever version: no module that has to be there, no syntax younger than Node 18. */
const PROGRAM: string = String.raw`
const fs = require("node:fs"), path = require("node:path"), os = require("node:os");
const { spawnSync } = require("node:child_process");
const [mode, what, ...names] = process.argv.slice(1);
const RESULTS = "${RESULTS}";

function run(program, args, output) {
  const shell = process.platform === "win32" && program !== process.execPath;
  const stdio = ["ignore", output === undefined ? "inherit" : "pipe", "inherit"];
  const ended = spawnSync(program, shell ? args.map(quoted) : args, { shell, stdio, maxBuffer: 64 * 1024 * 1024 });
  if (ended.error) throw ended.error;
  return { ok: ended.status === 0, output: String(ended.stdout || "") };
}
function quoted(arg) {
  return /^[\w@=:.,\\/-]+$/.test(arg) ? arg : '"' + arg.replace(/"/g, '\\"') + '"';
}
function must(program, args) {
  const ended = run(program, args, "pipe");
  if (!ended.ok) { process.stdout.write(ended.output); process.exit(1); }
  return ended.output;
}
function slashed(file) {
  return path.relative(process.cwd(), path.resolve(file)).split(path.sep).join("/");
}
function readPackage(folder) {
  return JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
}
function runnerOf(pkg) {
  const has = { ...pkg.dependencies, ...pkg.devDependencies };
  if (what !== "files") return what;
  if (has.vitest) return "vitest";
  if (has.jest) return "jest";
  return flagsOf(pkg) ? "node" : "script";
}
// Of a test script that is "node --test" with nothing but flags.
function flagsOf(pkg) {
  const words = String((pkg.scripts || {}).test || "").trim().split(/\s+/);
  const flags = words.slice(1);
  return words[0] === "node" && flags.includes("--test") && flags.every((w) => w.startsWith("--")) ? flags : undefined;
}
// What node --test looks for when it is given no names.
function testFiles(folder, inTest) {
  const found = [];
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) {
      if (entry.name !== "node_modules" && !entry.name.startsWith(".")) found.push(...testFiles(file, inTest || entry.name === "test"));
    } else if (/\.[cm]?js$/.test(entry.name)) {
      const name = entry.name.replace(/\.[cm]?js$/, "");
      if (inTest || /^test(-.*)?$|[.\-_]test$/.test(name)) found.push(file);
    }
  }
  return found;
}
function workspaces() {
  const all = JSON.parse(must("npm", ["query", ".workspace"]));
  return all.filter((one) => (one.scripts || {}).test).map((one) => one.name);
}
function listed(pkg) {
  switch (runnerOf(pkg)) {
    case "vitest": return JSON.parse(must("npx", ["--no-install", "vitest", "list", "--filesOnly", "--json"])).map((one) => slashed(one.file));
    case "jest": return JSON.parse(must("npx", ["--no-install", "jest", "--listTests", "--json"])).map(slashed);
    case "node": return testFiles(".", false).map(slashed);
    case "workspaces": return workspaces();
    default: return ["npm test"];
  }
}
function timed(name, program, args) {
  const began = Date.now();
  const { ok } = run(program, args);
  return { name, ok, ms: Date.now() - began, why: ok ? "" : "its command did not end well" };
}
// vitest and jest write the same JSON: an entry per file.
function reported(program, args, file) {
  const ended = run(program, [...args, ...names]);
  if (!fs.existsSync(file)) return ended.ok ? [] : names.length === 1 ? [{ name: names[0], ok: false, ms: 0, why: "no report" }] : [];
  const report = JSON.parse(fs.readFileSync(file, "utf8"));
  return report.testResults.map((one) => ({
    name: slashed(one.name),
    ok: one.status === "passed",
    ms: Math.max(0, Math.round(one.endTime - one.startTime)) || 0,
    why: [one.message, ...(one.assertionResults || []).flatMap((each) => each.failureMessages || [])].filter(Boolean).join("\n"),
  }));
}
function results(pkg) {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "npm-tests-")), "report.json");
  switch (runnerOf(pkg)) {
    case "vitest": return reported("npx", ["--no-install", "vitest", "run", "--reporter=default", "--reporter=json", "--outputFile.json=" + file], file);
    case "jest": return reported("npx", ["--no-install", "jest", "--json", "--outputFile=" + file, "--runTestsByPath"], file);
    case "node": return names.map((name) => timed(name, process.execPath, [...flagsOf(pkg), name]));
    case "workspaces": return names.map((name) => timed(name, "npm", ["test", "--workspace", name]));
    default: return names.map((name) => timed(name, "npm", ["test"]));
  }
}
function xml(text) {
  return text.replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, "\ufffd").replace(/[&<>"]/g, (c) => "&#" + c.charCodeAt(0) + ";");
}
function junit(all) {
  const cases = all.map(({ name, ok, ms, why }) =>
    '<testcase name="' + xml(name) + '" time="' + ms / 1000 + '">' + (ok ? "" : "<failure>" + xml(why) + "</failure>") + "</testcase>\n");
  return "<testsuite>\n" + cases.join("") + "</testsuite>\n";
}
if (mode === "install") {
  const locked = fs.existsSync("package-lock.json") || fs.existsSync("npm-shrinkwrap.json");
  process.exit(run("npm", [locked ? "ci" : "install"]).ok ? 0 : 1);
} else if (mode === "list") {
  console.log(listed(readPackage(".")).join("\n"));
} else {
  fs.rmSync(RESULTS, { force: true });
  const all = results(readPackage(".")).filter((one) => names.includes(one.name));
  fs.mkdirSync("${RESULTS_DIR}", { recursive: true });
  fs.writeFileSync(RESULTS, junit(all));
  process.exit(all.length === names.length && all.every((one) => one.ok) ? 0 : 1);
}
`;
