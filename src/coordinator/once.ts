/**
 * `-once`: looks at the repositories, waits until the newest commits' builds have ended and says how it went. Only what
 * this process has looked at counts, and only builds by the recipes in force: an earlier run's verdict is not this
 * one's.
 *
 *   0  all green
 *   1  a build failed: its step, the last lines of its log and its address are printed
 *   2  the farm could not do it: no repository, no branch, no builder, no verdict
 */
import { stripVTControlCharacters } from "node:util";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { ms } from "../farm/ids.ts";
import type { RepoStanding } from "../source/repo-watch.ts";
import type { BuildLine } from "../store/progress.ts";
import { visibleLines } from "../ui/text.ts";
import type { Newest } from "./newest.ts";

const LAST_LINES = 20;
const TAIL_BYTES = 64 * 1024;
const SAFETY_NET = ms(1000);

export interface OnceDeps {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly newest: Newest;
  readonly out: { write(text: string): unknown };
  readonly pages: string;
}

/** Resolves with the exit status of `-once`. Rejects with `signal.reason` when aborted. */
export async function once(deps: OnceDeps, signal: AbortSignal): Promise<0 | 1 | 2> {
  const { bus, clock, newest, out } = deps;
  let wake = (): void => {};
  for (const prefix of ["build:", "repo:", "grid:"]) bus.subscribe(prefix, () => wake(), signal);
  for (;;) {
    signal.throwIfAborted();
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const { repos } = newest;
    if (repos.length > 0 && repos.every((repo) => repo.looked)) {
      const builds = await newest.builds();
      const refusal = whyNothing(repos, builds.length);
      if (refusal !== undefined) {
        out.write(refusal);
        return 2;
      }
      const ended = builds.flatMap((build) => (build?.state === "ended" ? [build] : []));
      if (ended.length === builds.length) return await report(deps, ended);
    }
    const rest = new AbortController();
    signal.addEventListener("abort", () => rest.abort(), { once: true, signal: rest.signal });
    await Promise.race([woken, clock.sleep(SAFETY_NET, rest.signal).catch(() => {})]);
    rest.abort();
  }
}

/** The reason why the farm builds nothing at all; undefined: it builds. */
function whyNothing(repos: readonly RepoStanding[], builds: number): string | undefined {
  const stuck = repos.filter((repo) => repo.failure !== null || repo.heads.size === 0);
  if (stuck.length > 0) {
    const why = (repo: RepoStanding) => repo.failure ?? repo.problem ?? "it has no commit on a watched branch";
    return stuck.map((repo) => `Cannot build ${repo.name} (${repo.url}): ${why(repo)}\n`).join("");
  }
  if (builds > 0) return undefined;
  return "Cannot build anything: no builder of the configuration builds a watched branch\n";
}

async function report(deps: OnceDeps, builds: readonly BuildLine[]): Promise<0 | 1 | 2> {
  for (const build of builds) {
    if (build.outcome === "success") continue;
    deps.out.write(`\n${build.builder} at ${build.hash.slice(0, 8)}: ${said(build)}\n`);
    if (build.stepLog !== null) {
      const text = (await deps.newest.tailOf(build.stepLog, TAIL_BYTES)).toString("utf8");
      const lines = text === "" ? [] : text.replace(/\n$/, "").split("\n").slice(-LAST_LINES);
      for (const line of lines) deps.out.write(`  ${printable(line)}\n`);
    }
    deps.out.write(`  ${deps.pages}/b/${build.id}\n`);
  }
  const bad = builds.filter((build) => build.outcome !== "success");
  if (bad.length === 0) return 0;
  return bad.every((build) => build.outcome === "failure") ? 1 : 2;
}

function said(build: BuildLine): string {
  const reason = build.reason ? `: ${build.reason}` : "";
  if (build.outcome === "failure") return `failed in step “${build.step ?? "?"}”${reason}`;
  if (build.outcome === "canceled" || build.outcome === "skipped") return `was ${build.outcome}${reason}`;
  return `the farm could not build it${reason}`;
}

/** A line of a log without anything that would steer the terminal. Tabs stay. */
function printable(line: string): string {
  return visibleLines(stripVTControlCharacters(line));
}
