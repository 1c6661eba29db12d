/** Since when a builder is red, and what did it, for people: the sentence of a build's page, the marks of the grid, the list of the front page. */
import { lineOfPair, standingOf } from "../../builds/culprit.ts";
import { LOOK_BACK } from "../../builds/narrowing.ts";
import { readLine } from "../../store/lines.ts";
import type { BuildFacts } from "../../store/pages-build.ts";
import { commitNames, type RedRow } from "../../store/pages-culprits.ts";
import type { Sql } from "../../store/sql.ts";
import type { Since } from "../../ui/pages/build.tsx";
import { plural, subject, visible } from "../../ui/text.ts";
import type { WebDeps } from "../deps.ts";

/** Commits of a merge that are listed; whoever wants more asks git. */
export const MERGED = 50;

/** Of a build that failed; null: its commit is green by another try, or not on its branch any more. */
export async function sinceOf(sql: Sql, build: BuildFacts, merged: WebDeps["merged"]): Promise<Since | null> {
  const line = await readLine(sql, build, LOOK_BACK, build.commitId);
  const own = line[0]?.builds.find(({ id }) => id === build.id);
  if (own === undefined) return null;
  const standing = standingOf(lineOfPair(line, own.pair), build.recipe);
  if (standing.kind === "green") return null;
  const { kind, red } = standing;
  const [name] = await commitNames(sql, [red.commitId]);
  const merge = kind === "commit" && name !== undefined && name.parents.length > 1;
  return {
    kind,
    other: own.pair[0],
    first: {
      hash: red.hash,
      build: red.build,
      here: red.commitId === build.commitId,
      subject: subject(name?.message ?? ""),
      author: name?.author ?? "",
    },
    green: kind === "never green" ? null : { hash: standing.green.hash, build: standing.green.build },
    between: kind === "range" ? standing.between : 0,
    looking: kind === "range" ? standing.open : [],
    merged: merge ? (await merged(build.repo, red.hash, MERGED)).length : null,
  };
}

/** "red since a1b2c3d4 Fix the parser by A. Author, green before at 9f8e7d6c". */
export function redSentence(red: RedRow): string {
  const commit = `${red.hash.slice(0, 8)} ${visible(subject(red.message))} by ${visible(red.author)}`;
  const green = red.greenHash?.slice(0, 8) ?? "";
  switch (red.kind) {
    case "commit":
      return `red since ${commit}, green before at ${green}`;
    case "recipe":
      return `red since the configuration changed, green before at ${green}`;
    case "range":
      return `red since ${red.hash.slice(0, 8)} or one of ${plural(red.between, "commit")} before it, green at ${green}`;
    default:
      return `red since ${red.hash.slice(0, 8)}, never green before`;
  }
}
