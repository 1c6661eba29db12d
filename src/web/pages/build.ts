/** Data of `/b/ID` and `/b/ID/STEP`. */
import { reproduction } from "../../builds/reproduce.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Status } from "../../farm/build.ts";
import { buildId, type EpochMs } from "../../farm/ids.ts";
import { actorFor, type Visitor } from "../../gomote/access.ts";
import {
  type AttemptFacts,
  againOf,
  attemptsOf,
  type BuildFacts,
  buildFacts,
  earlierOf,
  elsewhereOf,
  type NeighbourRow,
  recipeOf,
  recipeSteps,
  type StepFacts,
  stepsOf,
} from "../../store/pages-build.ts";
import { buildLines } from "../../store/pages-lines.ts";
import { groupFacts } from "../../store/pages-tests.ts";
import type { Sql } from "../../store/sql.ts";
import { type BuildLine, stepHref } from "../../ui/data.ts";
import { groupName, groupOf } from "../../ui/group-name.ts";
import type { LogData } from "../../ui/log-rows.tsx";
import type { BuildData, Mini, Reproduce } from "../../ui/pages/build-data.ts";
import { statusOf } from "../../ui/status.ts";
import type { GroupData, TestsData } from "../../ui/tests.tsx";
import type { LogReader, WebDeps } from "../deps.ts";
import { linesOf, machineRef, otherOf } from "../lines.ts";
import { lastLines, linesFrom } from "../log-lines.ts";
import { waitOfBuild } from "../queues.ts";
import { LOOKED_AT, whyLines } from "../why.ts";
import { keptMachine } from "./kept-machine.ts";
import { type Story, storyOf } from "./since.ts";
import { failedNames, type TestsAsked, testsData, withSince } from "./tests.ts";

const EARLIER = 30;
/** How many commits are looked through for earlier builds of the builder. */
const HISTORY = 200;
const TAIL = 100;
/** How many lines a page without script shows, from line `from` on. */
const LINES = 1000;

export interface BuildDeps {
  readonly sql: Sql;
  readonly config: FarmConfig;
  readonly logs: LogReader;
  readonly merged: WebDeps["merged"];
  /** The visitor of the page. */
  readonly who: Visitor;
}

/** The data of a build's page. Undefined: there is no such build, attempt or step. */
export async function buildData(
  deps: BuildDeps,
  id: number,
  step: string | undefined,
  attempt: number | undefined,
  from: number | undefined,
  asked: TestsAsked,
  now: EpochMs,
): Promise<{ data: BuildData; topics: string[] } | undefined> {
  const { sql, config } = deps;
  const facts = await buildFacts(sql, id);
  if (!facts) return undefined;
  const [rows, attempts, history, elsewhere, again] = await Promise.all([
    buildLines(sql, [id]),
    attemptsOf(sql, id),
    earlierOf(sql, facts, HISTORY),
    elsewhereOf(sql, facts.commitId),
    againOf(sql, facts.commitId, facts.builder),
  ]);
  const [build] = await linesOf(sql, rows, config);
  const current = attempt === undefined ? attempts.at(-1) : attempts.find((a) => a.number === attempt);
  if (!build || (attempt !== undefined && !current)) return undefined;
  const begun = current ? await stepsOf(sql, current.id) : [];
  const steps = begun.length > 0 || facts.state === "ended" ? begun : (await recipeSteps(sql, id)).map(notBegun);
  const latest = current?.number === attempts.at(-1)?.number;
  const { tests, story } = await testsAndStory(deps, facts, asked);
  const shown: Shown | undefined =
    step === undefined
      ? ((latest ? await failedGroup(sql, facts, tests) : undefined) ?? chosen(steps))
      : (steps.find((s) => s.name === step) ?? (await groupStep(sql, id, step, asked.test)));
  if (step !== undefined && !shown) return undefined;
  const [log, why, wait] = await Promise.all([
    shown?.logId ? logData(deps, id, shown, shown.group || !current ? "" : String(current.number), from) : null,
    latest ? whyData(deps, build, steps) : null,
    build.status === "waiting" ? waitOfBuild(sql, buildId(id), now) : null,
  ]);
  const { since } = story;
  const reproduce = facts.outcome === "failure" ? await reproduceData(deps, facts, steps, tests) : null;
  const kept = facts.outcome === "failure" ? await keptMachine(sql, config, facts, build, deps.who) : undefined;
  const mini = miniOf(config);
  const { canceledBy } = facts;
  const reason = canceledBy === null ? build.reason : `canceled by ${actorFor(deps.who, canceledBy)}`;
  const data: BuildData = {
    build: { ...build, reason },
    machine: kept?.machine ?? null,
    committedAt: facts.committedAt,
    provenance: facts.provenance,
    requestedBy: facts.requestedBy === null ? null : actorFor(deps.who, facts.requestedBy),
    rebuildOf: facts.rebuildOf,
    knownIssues: (config.builders.find((b) => b.name === facts.builder)?.knownIssues ?? []).map(String),
    narrows: facts.narrows,
    since,
    reproduce,
    why: tests !== null && tests.failures.length > 0 ? null : why,
    wait,
    tests,
    attempt: current?.number ?? 0,
    attempts: attempts.map(attemptRow),
    away:
      latest && current?.machine && current.parkedUntil
        ? { machine: current.machine, until: current.parkedUntil }
        : null,
    steps: steps.map((s) => ({
      name: s.name,
      status: stepStatus(s, current),
      exit: s.status,
      startedAt: s.startedAt,
      endedAt: s.endedAt,
      hasLog: s.logId !== null,
    })),
    step: shown?.name ?? null,
    named: step !== undefined,
    group: shown?.group ?? null,
    logDroppedAt: shown?.logDroppedAt ?? null,
    log,
    earlier: history.slice(0, EARLIER).map((row) => mini(row, row.hash.slice(0, 8))),
    elsewhere: elsewhere.map((row) => mini(row, `${row.builder}${withText(row)}`)),
    again: again.map((row) => mini(row, `#${row.build}${withText(row)}`)),
  };
  const topics = [`build:${id}`];
  if (build.status === "waiting") topics.push(`queue:${build.hostType}`);
  if (since !== null) topics.push(`standing:${build.repo}`);
  if (kept?.instance !== undefined) topics.push(`gomote:${kept.instance}`);
  return { data, topics };
}

/** The tests of a build, and since when the build and its failed tests are red. */
async function testsAndStory(
  deps: BuildDeps,
  facts: BuildFacts,
  asked: TestsAsked,
): Promise<{ readonly tests: TestsData | null; readonly story: Story }> {
  const tests = await testsData(deps, facts.id, asked);
  if (facts.outcome !== "failure") return { tests, story: { since: null, tests: new Map() } };
  const names = tests === null ? [] : failedNames(tests);
  const story = await storyOf(deps.sql, facts, names, tests?.failed ?? 0, deps.merged);
  return { tests: tests && withSince(tests, story.tests), story };
}

/** How to reproduce the failure of a build. Null: none of its steps failed. */
async function reproduceData(
  { sql, config }: BuildDeps,
  facts: BuildFacts,
  steps: readonly StepFacts[],
  tests: TestsData | null,
): Promise<Reproduce | null> {
  const step = steps.find(({ outcome }) => outcome === "failure")?.name;
  const asked = step === undefined ? undefined : await recipeOf(sql, facts.id);
  if (step === undefined || asked === undefined) return null;
  const { hash, recipe } = asked;
  const names = (tests?.failures ?? []).map(({ name }) => name);
  const hostArch = config.hosts.find(({ hostType }) => hostType === recipe.hostType)?.hostArch;
  const [goos = ""] = (hostArch ?? recipe.hostType.replace(/^host-/, "")).split("-");
  const urlOf = (repo: string): string | undefined => config.repos.find(({ name }) => name === repo)?.url;
  return {
    step,
    ...reproduction(recipe, { build: facts.id, step, tests: names, repo: facts.repo, hash }, goos, urlOf),
  };
}

/** A step, or a group of tests, whose log is shown like a step's. */
type Shown = StepFacts & { readonly group?: GroupData };

async function groupStep(sql: Sql, build: number, name: string, test: number | undefined): Promise<Shown | undefined> {
  const number = groupOf(name);
  const facts = number === undefined ? undefined : await groupFacts(sql, build, number, test);
  if (!facts) return undefined;
  const { log: logId, status, startedAt, endedAt, logDroppedAt, machine, hostType, count, names } = facts;
  const group = { machine: { name: machine, hostType }, count, names };
  return { number: -1, name, logId, status, outcome: null, startedAt, endedAt, logDroppedAt, group };
}

/** The group to show of a build that failed by its tests: the one in which the first failed test failed first. */
async function failedGroup(sql: Sql, facts: BuildFacts, tests: TestsData | null): Promise<Shown | undefined> {
  const [first] = tests?.failures ?? [];
  if (facts.outcome !== "failure" || !first || first.group === null) return undefined;
  return groupStep(sql, facts.id, groupName(first.group), first.number);
}

/** A step that no attempt has begun. The page shows all steps before anything happens. */
function notBegun(name: string, number: number): StepFacts {
  return { number, name, logId: null, logDroppedAt: null, status: null, outcome: null, startedAt: null, endedAt: null };
}

/** The step to show: the failing one, else the running one, else the last that wrote anything. */
function chosen(steps: readonly StepFacts[]): StepFacts | undefined {
  const started = steps.filter((step) => step.logId !== null);
  return (
    started.find((step) => step.outcome === "failure") ??
    started.find((step) => step.endedAt === null) ??
    started.at(-1)
  );
}

function stepStatus(step: StepFacts, attempt: AttemptFacts | undefined): Status {
  if (step.outcome !== null) return step.outcome;
  if (step.startedAt === null) return attempt?.state === "ended" ? "skipped" : "waiting";
  return attempt?.state === "ended" ? (attempt.outcome ?? "canceled") : "running";
}

function attemptRow(a: AttemptFacts): BuildData["attempts"][number] {
  return {
    number: a.number,
    status: statusOf(a.state, a.outcome),
    reason: a.reason,
    machine: machineRef(a.machine, a.machineType),
    createdAt: a.createdAt,
    startedAt: a.startedAt,
    endedAt: a.endedAt,
    snapshot: a.snapshotNote,
  };
}

async function logData(
  deps: BuildDeps,
  build: number,
  step: StepFacts,
  attempt: string,
  asked: number | undefined,
): Promise<LogData | null> {
  if (step.logId === null || step.logDroppedAt !== null) return null;
  const { total, length, ended, truncated, from, lines } = await (asked === undefined
    ? lastLines(deps.logs, step.logId, TAIL)
    : linesFrom(deps.logs, step.logId, asked, LINES));
  return {
    base: stepHref(build, step.name),
    attempt,
    total,
    length,
    ended,
    truncated,
    from,
    tail: lines,
  };
}

async function whyData(deps: BuildDeps, build: BuildLine, steps: readonly StepFacts[]): Promise<BuildData["why"]> {
  if (build.endedAt !== null && build.status !== "failure" && build.status !== "known_issue") return null;
  const failed = steps.find((step) => step.outcome === "failure");
  if (!failed || failed.logId === null || failed.logDroppedAt !== null) return null;
  const { lines, from } = await lastLines(deps.logs, failed.logId, LOOKED_AT);
  const why = whyLines(lines, from);
  return why.length === 0 ? null : { step: failed.name, lines: why };
}

/** The text of a pair's other commit, ` with go 1f2e3d4c`. */
function withText(row: NeighbourRow): string {
  const other = otherOf(row);
  return other === null ? "" : ` with ${other.repo} ${other.hash.slice(0, 8)}`;
}

function miniOf(config: FarmConfig): (row: NeighbourRow, label: string) => Mini {
  const known = new Set(config.builders.filter((b) => b.knownIssues.length > 0).map((b) => b.name));
  return (row, label) => {
    const status = statusOf(row.state, row.outcome, row.flaky);
    return { build: row.build, label, status: status === "failure" && known.has(row.builder) ? "known_issue" : status };
  };
}
