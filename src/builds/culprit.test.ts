import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Outcome } from "../farm/build.ts";
import { buildId } from "../farm/ids.ts";
import type { LineBuild, LineCommit } from "../store/lines.ts";
import {
  type Edge,
  lineOfKey,
  newestBuild,
  openIn,
  standingOf,
  standingRow,
  TRIES,
  unneeded,
  wanted,
  wantedForAll,
} from "./culprit.ts";

/** `R` red, `G` green by the recipe `now`, small ones by `old`; `n` red and built to narrow; the rest as listed. */
const LETTERS: Readonly<Record<string, Partial<LineBuild>>> = {
  R: { outcome: "failure" },
  G: { outcome: "success" },
  r: { outcome: "failure", recipe: "old" },
  g: { outcome: "success", recipe: "old" },
  n: { outcome: "failure", narrows: true },
  i: { outcome: "infra_failure", narrows: true },
  c: { outcome: "canceled", narrows: true },
  C: { outcome: "canceled" },
  s: { outcome: "skipped" },
  w: { state: "scheduled", outcome: null, narrows: true },
  q: { state: "scheduled", outcome: null, narrows: true, requested: true },
  o: { state: "running", outcome: null },
  x: { state: "scheduled", outcome: null, narrows: true, ours: false },
};

function buildOf(letter: string, id: number): LineBuild {
  const plain = {
    state: "ended",
    outcome: null,
    recipe: "now",
    pair: [null, null, null],
    narrows: false,
    ours: true,
    requested: false,
  } as const;
  return { id: buildId(id), ...plain, ...LETTERS[letter] };
}

/** `"R . iG g"`: one commit per word or sign, newest first; `.` was never built. */
function line(text: string): LineCommit[] {
  const words = text.includes(" ") ? text.split(" ") : [...text];
  return words.map((word, at) => ({
    commitId: at,
    hash: `h${at}`,
    parent: `h${at + 1}`,
    builds: word === "." ? [] : [...word].map((letter, i) => buildOf(letter, at * 10 + i)),
  }));
}

const BACKGROUND = { stride: false, atOnce: 1 };
const BATCH = { stride: true, atOnce: 2 };

/** "range 0-8, 7 between" as a reader would put it. */
function said(text: string): string {
  const standing = standingOf(line(text), "now");
  switch (standing.kind) {
    case "green":
      return "green";
    case "never green":
      return `never green, red at ${standing.red.at}`;
    case "range":
      return `range ${standing.red.at}-${standing.green.at}, ${standing.between} between${standing.unverified ? ", unverified" : ""}, open ${standing.open.length}`;
    default:
      return `${standing.kind} ${standing.red.at}, green ${standing.green.at}`;
  }
}

function next(text: string, wish = BACKGROUND): number[] {
  const commits = line(text);
  return wanted(commits, standingOf(commits, "now"), "now", wish).map((commit) => commit.commitId);
}

describe("standingOf()", () => {
  test.each([
    ["GRG", "green"], // green after red meanwhile
    ["....", "green"],
    ["..RG", "commit 2, green 3"],
    ["RRRG", "commit 2, green 3"],
    ["R...G", "range 0-4, 3 between, open 0"],
    ["R.R.G", "range 2-4, 1 between, open 0"], // two reds in the range
    ["R.G.R.G", "range 0-2, 1 between, open 0"], // an older break was mended
    ["RRR", "never green, red at 2"], // down to the root
    ["R..", "never green, red at 0"], // builder newer than the commits
    ["RscCiG", "range 0-5, 4 between, open 0"],
    ["Row.G", "range 0-4, 3 between, open 2"],
    ["R . RG . G", "range 0-2, 1 between, open 0"], // flaky counts as green
    ["RG . G", "green"], // red, then green on another try
  ])("%s is %s", (text, expected) => {
    expect(said(text)).toBe(expected);
  });

  test.each([
    ["Rg", "range 0-1, 0 between, unverified, open 0"],
    ["R gG", "commit 0, green 1"],
    ["R gR g", "recipe 1, green 1"], // the same code was green by the earlier recipe
    ["gR g g", "recipe 0, green 0"],
    ["R..g", "range 0-3, 2 between, unverified, open 0"],
    ["R gii", "range 0-1, 0 between, unverified, open 0"], // the farm cannot build it
    ["R r g", "range 0-2, 1 between, unverified, open 0"], // what broke it by the earlier recipe may have been something else
    ["R r G", "range 0-2, 1 between, open 0"],
    ["Rg G", "commit 0, green 1"], // the other recipe is the newer one
  ])("by another recipe: %s is %s", (text, expected) => {
    expect(said(text)).toBe(expected);
  });

  test("a gap in what is known of the branch accuses nobody", () => {
    const commits = line("RG").map((commit) => ({ ...commit, parent: "unknown" }));
    const standing = standingOf(commits, "now");
    expect([standing, wanted(commits, standing, "now", BACKGROUND)]).toMatchObject([{ kind: "range", between: 0 }, []]);
  });

  test("a line without a verdict has no recipe to compare by", () => {
    expect([
      newestBuild(line(".is"))?.recipe,
      newestBuild(line(".rG"))?.recipe,
      standingRow({ test: null, standing: standingOf(line("G"), "now") }),
    ]).toEqual([undefined, "old", undefined]);
  });
});

describe("wanted()", () => {
  test.each([
    ["R.......G", [4]],
    ["R...n...G", [6]],
    ["Rss.sss.G", [4]],
    ["R...w...G", []], // one at a time
    ["R...i...G", [3]], // passed over
    ["R...c...G", [3]],
    ["R i G", [1]], // nothing else is left
    ["R ii G", []],
    ["R c G", []], // somebody canceled it and does not want to see it again
    ["RG", []],
    ["Rg", [1]],
    ["R gw", []],
    ["R gii", []],
    ["R....rg", [5]], // it broke there by the earlier recipe
    ["R....Rg", [6]],
    ["R....rG", [3]],
    ["...", []],
    ["RRR", []],
  ])("of %s is %j", (text, expected) => {
    expect(next(text)).toEqual(expected);
  });

  test("a batch goes 1, 2, 4, 8 back from where it began, two at a time, and then halves what is left", () => {
    const steps = ["R..............G", "Rn.............G", "Rnn............G", "Rnn.n...n......G", "Rnn.n...G......G"];
    expect(steps.map((text) => next(text, BATCH))).toEqual([[1, 2], [2, 4], [4, 8], [11], [6]]);
    expect(next("Rww............G", BATCH)).toEqual([]);
    expect(next("Riw............G", BATCH)).toEqual([4]);
    expect([next("n..............G", BATCH), next("nnn............G", BATCH)]).toEqual([
      [1, 2],
      [4, 8],
    ]); // along the other repository
  });
});

test("unneeded(): what waits outside of the range or by another recipe, and never what somebody asked for", () => {
  const of = (text: string, recipe = "now") =>
    unneeded(line(text), openIn([{ test: null, line: line(text), standing: standingOf(line(text), recipe) }]));
  expect([of("wRw.Gwqx"), of("wGwR"), of("Rwwg"), of("R gw w"), of("rww.g", "old")]).toEqual([
    [0, 50],
    [0, 20],
    [],
    [20],
    [10, 20],
  ]);
});

/** `ab` failed by these, `-` by something else, `G` passed, `.` was not built, `w` waits; the newest first, which did not narrow anything. */
function edges(text: string, tests: string): Edge[] {
  const words = text.split(" ");
  const commits = line(words.map((word, at) => (/^[.Gw]$/.test(word) ? word : at === 0 ? "R" : "n")).join(" "));
  return [...tests].map((test) => {
    const own = lineOfKey(commits, ({ id, outcome }) => {
      const word = words[id / 10] ?? "";
      return outcome === "success" ? "passed" : word === "-" ? "nothing" : word.includes(test) ? "failed" : "passed";
    });
    return { test, line: own, standing: standingOf(own, "now") };
  });
}

test("lineOfKey(): each failing test has a line of its own", () => {
  const [a, b] = edges("ab b a . - G", "ab");
  expect([a?.standing, b?.standing]).toMatchObject([
    { kind: "commit", red: { at: 0 }, green: { at: 1 } },
    { kind: "commit", red: { at: 1 }, green: { at: 2 } },
  ]);
  const [c] = edges("ab - G", "a");
  expect([c?.standing, wantedForAll([c as Edge], "now", BACKGROUND)]).toMatchObject([
    { kind: "range", between: 1 },
    [], // built again it would not get to its tests either
  ]);
});

test("wantedForAll(): a build answers for all tests, and at most so many are open for all together", () => {
  const next = (text: string, wish: typeof BATCH) =>
    wantedForAll(edges(text, "ab"), "now", wish).map(({ commitId }) => commitId);
  expect([
    next("ab . . . G", BACKGROUND), // both have this range
    next("ab . . . b . . . G", BACKGROUND),
    next("ab . . . b . . . G", { stride: false, atOnce: 2 }),
    next("ab . w . b . . . G", BACKGROUND),
    next("ab . w . b . . . G", { stride: false, atOnce: 2 }),
  ]).toEqual([[2], [2], [2, 6], [], [6]]);
});

test("unneeded(): what one test needs stays", () => {
  const of = (text: string) => {
    const asked = edges(text, "ab");
    return unneeded(asked[0]?.line ?? [], openIn(asked));
  };
  expect([of("ab w b w G"), of("a w G w b")]).toEqual([[], [30]]);
});

test("the walk for several tests ends at the commit that broke each, never builds one twice, and costs at most what they cost one by one", () => {
  const story = fc.record({
    commits: fc.integer({ min: 2, max: 120 }),
    breaks: fc.array(fc.nat(), { minLength: 1, maxLength: 10 }),
    batch: fc.boolean(),
  });
  fc.assert(
    fc.property(story, ({ commits, breaks, batch }) => {
      const tests = breaks.map((_, i) => String.fromCharCode(97 + i));
      const broken = breaks.map((n) => n % (commits - 1)); // the oldest commit, which is green, is not among them
      const words = Array.from({ length: commits }, () => ".");
      const build = (at: number): void => {
        expect(words[at]).toBe(".");
        words[at] = tests.filter((_, i) => at <= (broken[i] ?? 0)).join("") || "G";
      };
      build(0);
      build(commits - 1);
      let built = 0;
      for (;;) {
        const chosen = wantedForAll(edges(words.join(" "), tests.join("")), "now", batch ? BATCH : BACKGROUND);
        expect(chosen.length).toBeLessThanOrEqual(batch ? 2 : 1);
        if (chosen.length === 0) break;
        for (const { commitId } of chosen) build(commitId);
        built += chosen.length;
      }
      const ends = edges(words.join(" "), tests.join("")).map(({ standing }) => standing);
      expect(ends).toMatchObject(broken.map((at) => ({ kind: "commit", red: { at }, green: { at: at + 1 } })));
      const log2 = Math.ceil(Math.log2(commits + 1));
      expect(built).toBeLessThanOrEqual(new Set(broken).size * (batch ? 2 * log2 + 2 : log2));
    }),
    { numRuns: 500 },
  );
});

test("the walk ends at a true edge after about log2 builds, whatever the farm and the branch do meanwhile", () => {
  const story = fc.record({
    // Of each commit whether it is red, oldest first; the root is green.
    breaks: fc.array(fc.boolean(), { minLength: 2, maxLength: 200 }),
    rare: fc.boolean(),
    infra: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 50 }),
    cut: fc.option(fc.nat(199), { nil: undefined }),
    batch: fc.boolean(),
  });
  fc.assert(
    fc.property(story, ({ breaks, rare, infra, cut, batch }) => {
      // Rare: one break that stays. Otherwise every commit may be red or green.
      const at = breaks.indexOf(true);
      let truth = [false, ...(rare ? breaks.map((_, i) => at >= 0 && i >= at) : breaks), true];
      let commits: LineCommit[] = line(".".repeat(truth.length));
      let id = 0;
      let built = 0;
      let lost = 0;
      const answer = (commit: LineCommit, outcome: Outcome, narrows: boolean): void => {
        const build = { ...buildOf("R", ++id), outcome, narrows };
        commits = commits.map((each) => (each === commit ? { ...each, builds: [...each.builds, build] } : each));
      };
      const isRed = (index: number): boolean => truth.at(-1 - index) ?? false;
      answer(commits[0] as LineCommit, "failure", false);
      answer(commits.at(-1) as LineCommit, "success", false);
      for (;;) {
        const standing = standingOf(commits, "now");
        const chosen = wanted(commits, standing, "now", batch ? BATCH : BACKGROUND);
        if (chosen.length === 0) break;
        for (const commit of chosen) {
          built++;
          const fails = infra[built % infra.length] === 0;
          if (fails) lost++;
          answer(commit, fails ? "infra_failure" : isRed(commits.findIndex((c) => c.commitId === commit.commitId)) ? "failure" : "success", true); // biome-ignore format: one thought
        }
        if (cut !== undefined && built === 3 && cut < truth.length - 2) {
          // A forced push: everything newer than the commit is replaced by one red commit.
          const kept = commits.slice(commits.length - 1 - cut);
          truth = [...truth.slice(0, cut + 1), true];
          const parent = kept[0]?.hash ?? null;
          const head = { commitId: 1000, hash: "new", parent, builds: [buildOf("R", ++id)] };
          commits = [head, ...kept];
        }
        expect(built).toBeLessThan(1000);
      }
      const end = standingOf(commits, "now");
      if (end.kind === "commit") {
        expect([isRed(end.red.at), isRed(end.green.at), end.green.at - end.red.at]).toEqual([true, false, 1]);
      } else {
        // Only what could not be built is left.
        expect(end.kind).toBe("range");
        if (end.kind !== "range") return;
        const left = commits.slice(end.red.at + 1, end.green.at).flatMap((commit) => commit.builds);
        expect(left.length).toBe(end.between * TRIES);
      }
      const log2 = Math.ceil(Math.log2(truth.length + 1)) + (cut === undefined ? 0 : 9);
      // Every commit that could not be built shifts the middle a little; nothing else costs more than halving does.
      if (lost === 0) expect(built).toBeLessThanOrEqual(batch ? 2 * log2 + 2 : log2);
      expect(built).toBeLessThanOrEqual((batch ? 2 * log2 + 2 : log2) + 4 * lost);
    }),
    { numRuns: 2000 },
  );
});
