/**
 * Random histories of two repositories and of a configuration, in which each of the three may break what is built and
 * mend it again. Builds end in any order, or not, or fail for the farm's own reasons. The tests check what culprit.ts,
 * pair-edges.ts and views.ts say about that.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { BuildState, Outcome, Recipe } from "../farm/build.ts";
import { type BuildId, buildId } from "../farm/ids.ts";
import { recipeDigest } from "../store/builds.ts";
import type { LineBuild, LineCommit, StandingRow, ToldBy } from "../store/lines.ts";
import { type Edge, standingOf } from "./culprit.ts";
import { type OtherEdge, ofOther } from "./pair-edges.ts";
import { decisionOf, type View, wantedOf } from "./views.ts";

/** What a build builds: a commit of its own, one of the other repository, and a configuration. Each counts from 1. */
type Place = readonly [own: number, other: number, config: number];

/** A time in which one of the three is broken: from `from` to before `to`. */
interface Break {
  readonly axis: 0 | 1 | 2;
  readonly from: number;
  readonly to: number;
}

interface Built {
  readonly id: BuildId;
  readonly place: Place;
  readonly narrows: boolean;
  state: BuildState;
  outcome: Outcome | null;
}

interface Nature {
  readonly paired: boolean;
  readonly batch: boolean;
  readonly breaks: readonly Break[];
  /** Own commits that sometimes pass although they are red. */
  readonly flaky: ReadonlySet<number>;
}

class World {
  readonly nature: Nature;
  heads: Place = [1, 1, 1];
  readonly builds: Built[] = [];
  told: readonly (StandingRow & ToldBy)[] = [];
  /** How many builds that narrow have ended, and were not skipped. */
  narrowed = 0;

  constructor(nature: Nature) {
    this.nature = nature;
    this.plan();
  }

  isRed(place: Place): boolean {
    return this.nature.breaks.some(({ axis, from, to }) => from <= place[axis] && place[axis] < to);
  }

  /**
   * Moves a head, and plans the newest pair. Builds that wait for the same own commit with another recipe are canceled.
   */
  move(axis: 0 | 1 | 2, by: number): void {
    const [own, other, config] = this.heads;
    this.heads = [own + (axis === 0 ? by : 0), other + (axis === 1 ? by : 0), config + (axis === 2 ? 1 : 0)];
    for (const build of this.builds) {
      if (build.place[0] === this.heads[0] && build.state === "scheduled" && !build.narrows)
        this.end(build, "canceled");
    }
    this.plan();
  }

  plan(): void {
    if (!this.builds.some(({ place }) => isDeepEqual(place, this.heads))) this.insert(this.heads, false);
  }

  insert(place: Place, narrows: boolean): void {
    this.builds.push({ id: buildId(this.builds.length + 1), place, narrows, state: "scheduled", outcome: null });
  }

  end(build: Built, outcome: Outcome): void {
    build.state = "ended";
    build.outcome = outcome;
    if (build.narrows && outcome !== "skipped") this.narrowed++;
  }

  /** Ends a build as its commits say. `lucky`: a flaky commit passes. */
  finish(build: Built, lucky: boolean): void {
    const passes = !this.isRed(build.place) || (lucky && this.nature.flaky.has(build.place[0]));
    this.end(build, passes ? "success" : "failure");
  }

  open(): Built[] {
    return this.builds.filter(({ state }) => state !== "ended");
  }

  line(): LineCommit[] {
    return this.#commits("app", this.heads[0], (own) => this.builds.filter(({ place }) => place[0] === own));
  }

  /** The line of the other repository, tested with `own`, as the recipe of `asked` sees it. */
  otherLine(own: number, asked: Place): LineCommit[] {
    const digest = this.digest(asked);
    const alike = recipesBut(asked);
    const commits = this.#commits("go", asked[1], (other) =>
      this.builds.filter(({ place }) => place[0] === own && place[1] === other),
    );
    return commits.map((commit) => ({
      ...commit,
      builds: commit.builds.map((build) => (alike(this.place(build.id)) ? { ...build, recipe: digest } : build)),
    }));
  }

  place(id: number): Place {
    return this.builds[id - 1]?.place ?? [0, 0, 0];
  }

  digest(place: Place): string {
    return recipeDigest(this.recipe(place)).digest;
  }

  recipe([, other, config]: Place): Recipe {
    const pair = this.nature.paired ? { with: { repo: "go", branch: "main", hash: `go${other}` } } : {};
    const step = { name: `make ${config}`, command: ["make"], dir: "", env: [], path: [], timeLimitMs: 1 };
    return { ...RECIPE, ...pair, steps: [step] };
  }

  /** Looks at the line, and acts as narrowing.ts does. */
  async look(): Promise<void> {
    const line = this.line();
    const viewBy = async (build: LineBuild): Promise<View> => {
      const place = this.place(build.id);
      const edge: Edge = { test: null, line, standing: standingOf(line, build.recipe) };
      const moved = new Map<Edge, OtherEdge>();
      if (edge.standing.kind === "recipe" && this.nature.paired) {
        const own = edge.standing.red.commitId;
        const other = this.otherLine(own, place);
        const found = ofOther({ test: null, line: other, standing: standingOf(other, build.recipe) }, own);
        if (found) moved.set(edge, found);
      }
      const { batch } = this.nature;
      const so = place[2] === this.heads[2];
      const wish = { stride: batch, atOnce: batch ? 2 : 1 };
      const wanted = so ? wantedOf(line, [edge], moved, this.recipe(place), wish) : [];
      return { recipe: build.recipe, edges: [moved.get(edge) ?? edge], wanted, configured: so ? "so" : "otherwise" };
    };
    const decision = await decisionOf(line, this.told, true, viewBy);
    for (const id of decision.unneeded) {
      const build = this.builds[id - 1];
      if (build) this.end(build, "skipped");
    }
    for (const { commitId, recipe } of decision.wanted) {
      const other = Number(recipe.with?.hash.slice(2) ?? this.heads[1]);
      const place: Place = [commitId, other, this.heads[2]];
      if (!this.open().some((build) => isDeepEqual(build.place, place))) this.insert(place, true);
    }
    this.told = decision.standings;
    this.check();
  }

  /** Checks what holds at any time. */
  check(): void {
    const waiting = this.open().filter(({ narrows, state }) => narrows && state === "scheduled");
    expect(waiting.length).toBeLessThanOrEqual(this.nature.batch ? 2 : 1);
    for (const { kind, redBuild, greenBuild } of this.told) {
      if (kind !== "commit") continue;
      const [red, green] = [this.place(redBuild), this.place(greenBuild ?? 0)];
      // One step along one of the repositories, and nothing else.
      const steps = red.map((at, axis) => at - (green[axis] ?? 0));
      expect([[1, 0, 0], [0, 1, 0]]).toContainEqual(steps); // biome-ignore format: one thought
      if (this.nature.flaky.has(red[0]) || this.nature.flaky.has(green[0])) continue;
      expect({ red, isRed: this.isRed(red), greenIsRed: this.isRed(green) }).toEqual({
        red,
        isRed: true,
        greenIsRed: false,
      });
    }
  }

  #commits(name: string, newest: number, of: (at: number) => readonly Built[]): LineCommit[] {
    return Array.from({ length: newest }, (_, i) => newest - i).map((at) => ({
      commitId: at,
      hash: `${name}${at}`,
      parent: at > 1 ? `${name}${at - 1}` : null,
      builds: of(at).map((build) => ({
        id: build.id,
        state: build.state,
        outcome: build.outcome,
        recipe: this.digest(build.place),
        pair: this.nature.paired ? ["go", "main", `go${build.place[1]}`] : [null, null, null],
        narrows: build.narrows,
        ours: true,
        requested: false,
      })),
    }));
  }
}

const RECIPE = { builder: "mod", hostType: "host-x", env: [], sourceDir: "src" };

function isDeepEqual(a: Place, b: Place): boolean {
  return a.every((at, axis) => at === b[axis]);
}

/** Whether a place has the recipe of `asked`, except for the other repository's commit. */
function recipesBut(asked: Place): (place: Place) => boolean {
  return (place) => place[2] === asked[2];
}

const breaks = (most: number): fc.Arbitrary<Break[]> =>
  fc.array(
    fc
      .record({ axis: fc.constantFrom<0 | 1 | 2>(0, 0, 0, 1, 1, 1, 2), from: fc.integer({ min: 2, max: 40 }), lasts: fc.constantFrom(1, 2, 5, 20, 1000) })
      .map(({ axis, from, lasts }) => ({ axis, from: axis === 2 ? 2 + (from % 3) : from, to: from + lasts })),
    { minLength: 1, maxLength: most },
  ); // biome-ignore format: one thought

const nature = (flaky: boolean): fc.Arbitrary<Nature> =>
  fc.record({
    paired: fc.boolean(),
    batch: fc.boolean(),
    breaks: breaks(4),
    flaky: flaky
      ? fc.array(fc.nat(60), { maxLength: 10 }).map((list) => new Set(list))
      : fc.constant(new Set<number>()),
  });

type Event =
  | { readonly what: "move"; readonly axis: 0 | 1 | 2; readonly by: number }
  | { readonly what: "begin" | "end"; readonly which: number; readonly how: number }
  | { readonly what: "look" };

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constant("move" as const), axis: fc.constantFrom<0 | 1 | 2>(0, 0, 0, 1, 1, 1, 1, 2), by: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 6, arbitrary: fc.record({ what: fc.constantFrom("begin" as const, "end" as const, "end" as const), which: fc.nat(20), how: fc.nat(19) }) },
  { weight: 5, arbitrary: fc.record({ what: fc.constant("look" as const) }) },
); // biome-ignore format: one thought

/** Lets one event happen. `faults`: the farm may fail, and people may cancel. */
async function happen(world: World, event: Event, faults: boolean): Promise<void> {
  if (event.what === "look") return world.look();
  if (event.what === "move") {
    if (event.axis !== 1 || world.nature.paired) world.move(event.axis, event.by);
    return;
  }
  const open = world.open();
  const build = open[event.which % Math.max(1, open.length)];
  if (build === undefined) return;
  if (event.what === "begin") build.state = "running";
  else if (faults && event.how < 3) world.end(build, "infra_failure");
  else if (faults && event.how === 3) world.end(build, "canceled");
  else world.finish(build, event.how % 2 === 0);
}

/** Ends all open builds, and looks again, until nothing is wanted: machines are idle and nothing is pushed. */
async function settle(world: World): Promise<void> {
  for (let rounds = 0; ; rounds++) {
    for (const build of world.open()) world.finish(build, rounds % 2 === 0);
    await world.look();
    if (world.open().length === 0) return;
    expect(rounds).toBeLessThan(200);
  }
}

test("no innocent commit is named, and at most so many builds wait, whatever is pushed and however builds end", async () => {
  await fc.assert(
    fc.asyncProperty(
      nature(true),
      fc.array(event, { minLength: 5, maxLength: 60, size: "max" }),
      async (given, events) => {
        const world = new World(given);
        for (const each of events) await happen(world, each, true);
        await settle(world);
      },
    ),
    { numRuns: 200 },
  );
});

test("once nothing moves any more, the commit that did it is named after a few builds, or the configuration", async () => {
  await fc.assert(
    fc.asyncProperty(
      nature(false),
      fc.array(event, { minLength: 5, maxLength: 60, size: "max" }),
      async (given, events) => {
        const world = new World(given);
        world.finish(world.builds[0] as Built, true);
        for (const each of events) await happen(world, each, false);
        const before = world.narrowed;
        await settle(world);
        const { heads, told } = world;
        if (!world.isRed(heads)) {
          expect(told).toEqual([]);
          return;
        }
        const log2 = (n: number): number => Math.ceil(Math.log2(n + 1));
        const strides = given.batch ? 2 : 1;
        expect(world.narrowed - before).toBeLessThanOrEqual(strides * (log2(heads[0]) + log2(heads[1]) + 2));
        const [row] = told;
        const [red, green] = [world.place(row?.redBuild ?? 0), world.place(row?.greenBuild ?? 0)];
        expect(row?.kind).toBe(row?.kind === "recipe" ? "recipe" : "commit");
        // The red end is in the present configuration.
        expect(red[2]).toBe(heads[2]);
        if (row?.kind === "recipe") expect(green[2]).toBeLessThan(red[2]);
        else if (red[0] > green[0]) expect(red[1]).toBe(heads[1]);
      },
    ),
    { numRuns: 200 },
  );
});

test("while the other repository moves in every round, the commit that did it is named after as many builds as otherwise, and stays so", async () => {
  const story = fc
    .integer({ min: 2, max: 60 })
    .chain((own) => fc.record({ own: fc.constant(own), from: fc.integer({ min: 2, max: own }) }));
  await fc.assert(
    fc.asyncProperty(story, async ({ own, from }) => {
      const world = new World({ paired: true, batch: false, breaks: [{ axis: 0, from, to: 100 }], flaky: new Set() });
      world.finish(world.builds[0] as Built, true);
      world.move(0, own - 1);
      const named: boolean[] = [];
      for (let round = 0; round < 30; round++) {
        for (const build of world.open()) world.finish(build, true);
        await world.look();
        named.push(world.told.some(({ kind, redCommit }) => kind === "commit" && redCommit === from));
        world.move(1, 1);
      }
      const rounds = Math.ceil(Math.log2(own)) + 1;
      expect(named.slice(rounds)).toEqual(named.slice(rounds).map(() => true));
    }),
  );
});
