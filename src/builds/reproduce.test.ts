import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Recipe, Step, TestsSpec } from "../farm/build.ts";
import { type Failed, reproduction } from "./reproduce.ts";
import { word, wordOfPath } from "./shell-word.ts";

const run = promisify(execFile);

async function said(words: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout } = await run("sh", ["-c", `printf '%s\\0' ${words}`], { env: { ...process.env, ...env } });
  return stdout;
}

describe("word()", () => {
  test("says what it looks like", () => {
    expect(["make", "", "it's", "a b", "$HOME", "-n", "a\nb", "\u001b[31m", "x\u202ey"].map(word)).toEqual([
      "make",
      "''",
      "'it'\\''s'",
      "'a b'",
      "'$HOME'",
      "-n",
      "'a\nb'",
      "\"$(printf '\\033')\"'[31m'",
      "x\"$(printf '\\342\\200\\256')\"y",
    ]);
  });

  test("is the text again in a real shell, whatever is in it", async () => {
    const hostile = fc.constantFrom(
      "'",
      '"',
      "\\",
      "$",
      "`",
      "!",
      "\n",
      "\t",
      "\r",
      "\u001b",
      "*",
      "~",
      "$WORKDIR",
      "\u202e",
      "🙂",
      ";",
      "#",
      "%",
    );
    const texts = fc.array(
      fc.oneof(fc.string({ unit: "binary" }), fc.array(hostile, { maxLength: 12 }).map((parts) => parts.join(""))),
      { minLength: 1, maxLength: 20 },
    ); // biome-ignore format: one thought
    await fc.assert(
      fc.asyncProperty(texts, async (raw) => {
        const given = raw.map((text) => text.replaceAll("\0", ""));
        expect(await said(given.map(word).join(" "))).toBe(given.map((text) => `${text}\0`).join(""));
      }),
      { numRuns: 60 },
    );
  });

  test("wordOfPath() leaves the work dir and PATH to the shell, and nothing else", async () => {
    const env = { WORKDIR: "/a b/$c", HOME: "/h" };
    expect(await said(["$WORKDIR/x y:$HOME", "$WORKDIR", ""].map(wordOfPath).join(" "), env)).toBe(
      "/a b/$c/x y:$HOME\0/a b/$c\0\0",
    );
  });
});

const STEP: Step = { name: "make", command: ["sh", "-ec", "make"], dir: "", env: [], path: [], timeLimitMs: 1000 };
const RECIPE: Recipe = {
  builder: "linux-amd64",
  hostType: "host-linux-amd64-x",
  env: ["GO_BUILDER_NAME=linux-amd64", "NPM_TOKEN=hidden", "CACHE=$WORKDIR/cache"],
  sourceDir: "src",
  steps: [
    { ...STEP, name: "configure", command: ["sh", "-ec", "./configure 'a b'"] },
    { ...STEP, name: "test", dir: "lib", env: ["A=it's"], path: ["$WORKDIR/bin", "$PATH"] },
    { ...STEP, name: "never" },
  ],
};
const FAILED: Failed = { build: 7, step: "test", tests: [], repo: "app", hash: "a".repeat(40) };
const TESTS: TestsSpec = {
  list: { command: { ...STEP, command: ["./list"] } },
  run: { ...STEP, command: ["sh", "-ec", './run "$@"', "sh"] },
  names: "args",
  results: "exit",
  groupTargetMs: 1,
  unknownMs: 1,
  helpers: 0,
  tryHelpers: 0,
  keepGoing: true,
};
const urlOf = (): string => "https://ann:hidden@git.example.org/app.git";

function commands(recipe: Recipe, failed: Partial<Failed> = {}, url: () => string | undefined = urlOf): string {
  const told = reproduction(recipe, { ...FAILED, ...failed }, "linux", url);
  return "cannot" in told ? told.cannot : told.commands;
}

describe("reproduction()", () => {
  test("clones the exact commit, runs what came before in its order, and then what failed, and tells no secret", () => {
    expect(reproduction(RECIPE, FAILED, "linux", urlOf)).toEqual({
      hidden: ["NPM_TOKEN"],
      commands: `( set -e
mkdir build-7
cd build-7
export WORKDIR="$PWD"
git clone -- https://git.example.org/app.git src
git -C src checkout --detach ${"a".repeat(40)}
export GO_BUILDER_NAME=linux-amd64
export CACHE="$WORKDIR"/cache
( cd src && sh -ec './configure '\\''a b'\\''' )
( cd src/lib && export A='it'\\''s' && export PATH="$WORKDIR"/bin:"$PATH" && sh -ec make )
)
`,
    });
  });

  test("of tests those that failed, the way the builder hands them on; without any, what lists them", () => {
    const last = (spec: Partial<TestsSpec>, tests: string[]): string | undefined =>
      commands({ ...RECIPE, steps: [], tests: { ...TESTS, ...spec } }, { step: "tests", tests })
        .split("\n")
        .at(-3);
    expect([
      last({}, ["a", "-b c"]),
      last({ names: "dir" }, ["x y", "z"]),
      last({ names: "file" }, ["a", "b"]),
      last({}, []),
    ]).toEqual([
      `( cd src && sh -ec './run "$@"' sh a '-b c' )`,
      `( cd 'src/x y' && sh -ec './run "$@"' sh )`,
      `( cd src && printf '%s\\n' a b > "$WORKDIR"/failed-tests.txt && export BARNRAISER_TESTS="$WORKDIR"/failed-tests.txt && sh -ec './run "$@"' sh "$WORKDIR"/failed-tests.txt )`,
      `( cd src && "$WORKDIR"/./list )`,
    ]);
  });

  test("both commits of a pair, files and archives", () => {
    const text = commands({
      ...RECIPE,
      with: { repo: "go", branch: "main", hash: "b".repeat(40) },
      sources: [
        { dir: "go", file: "VERSION", text: "devel $OTHER" },
        { dir: "go", commit: "other" },
        { dir: "src", commit: "own" },
        { dir: "boot", url: "https://dl.example.org/x.tar.gz" },
      ],
    });
    expect(text.split("\n").slice(4, 12)).toEqual([
      "git clone -- https://git.example.org/app.git go",
      `git -C go checkout --detach ${"b".repeat(40)}`,
      "git clone -- https://git.example.org/app.git src",
      `git -C src checkout --detach ${"a".repeat(40)}`,
      "mkdir -p -- go",
      `printf %s 'devel ${"b".repeat(40)}' > go/VERSION`,
      "mkdir -p -- boot",
      "curl -fsSL -- https://dl.example.org/x.tar.gz | tar -xzf - -C boot",
    ]);
  });

  test("says why where it cannot", () => {
    expect([reproduction(RECIPE, FAILED, "windows", urlOf), commands(RECIPE, {}, () => undefined)]).toEqual([
      { cannot: "Its commands are those of windows: they are not written out for a POSIX shell." },
      "The repository app is not configured any more.",
    ]);
  });

  test("pasted into a real shell it does what the farm did, and stops where that failed", async () => {
    const folder = await mkdtemp(join(tmpdir(), "bisect-reproduce-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const git = (...args: string[]) =>
      run("git", ["-c", "user.name=A", "-c", "user.email=a@example.org", ...args], { cwd: join(folder, "origin") });
    await run("git", ["init", "-q", join(folder, "origin")]);
    await writeFile(join(folder, "origin", "f"), "one");
    await git("add", "f");
    await git("commit", "-qm", "one");
    const { stdout } = await git("rev-parse", "HEAD");
    await git("commit", "-qm", "two", "--allow-empty");
    const steps: Step[] = [
      {
        ...STEP,
        name: "make",
        command: ["sh", "-ec", 'cat f > "$CACHE"; printf %s "$A" >> "$CACHE"'],
        env: ["A= it's"],
      },
      { ...STEP, name: "test", command: ["sh", "-ec", 'git rev-parse HEAD >> "$CACHE"; exit 3'] },
      { ...STEP, name: "never", command: ["sh", "-ec", 'echo never >> "$CACHE"'] },
    ];
    const failed = { hash: stdout.trim() };
    const text = commands({ ...RECIPE, steps }, failed, () => join(folder, "origin"));
    const end = await run("sh", ["-c", text], { cwd: folder }).catch((error: { code: number }) => error.code);
    expect([end, await readFile(join(folder, "build-7", "cache"), "utf8")]).toEqual([3, `one it's${stdout}`]);
  });
});
