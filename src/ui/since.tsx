/** Since when a builder or one of its tests is red, in words: on the page of a failed build. */
import type { JSX } from "preact";
import { commitHref } from "./data.ts";
import { Name } from "./parts.tsx";
import { plural, visible } from "./text.ts";

/** Since when a red builder or a failing test is red: the first commit that is known to be red, and the last green one before it. */
export interface Since {
  /** Where the tests of a build broke at different commits: the one that this is about. */
  readonly test: string | null;
  /** `commit`: the first red one did it. `recipe`: the configuration did, or `other`. `range`: one of those between, or the first red one. */
  readonly kind: "commit" | "recipe" | "range" | "never green";
  /** The repository that this one is tested with, and between which of its commits it moved meanwhile; null: it did not. */
  readonly other: { readonly repo: string; readonly from: string | null; readonly to: string | null } | null;
  readonly first: {
    /** Of a pair: the other repository, when this commit and the green one are its; null: they are of the page's. */
    readonly repo: string | null;
    readonly hash: string;
    readonly build: number;
    /** It is the commit of this page. */
    readonly here: boolean;
    readonly subject: string;
    readonly author: string;
    readonly merge: boolean;
  };
  readonly green: { readonly hash: string; readonly build: number } | null;
  /** Commits between the two that say nothing. */
  readonly between: number;
  /** Builds that run or wait to find out. */
  readonly looking: readonly number[];
  /** How many commits it brought, when it is a merge that did it. */
  readonly merged: number | null;
}

/** "red since a1b2c3d4 Fix the parser by A. Author (green before at 9f8e7d6c)". */
export function SinceLine(props: { since: Since | null; repo: string }): JSX.Element | null {
  const { since, repo } = props;
  if (since === null) return null;
  const { test, first, green, between, looking, merged } = since;
  return (
    <span class="since">
      {test === null ? null : (
        <>
          <Name text={test} />{" "}
        </>
      )}
      red since <FirstRed since={since} />
      {merged !== null ? (
        <>
          , a merge{" "}
          {merged > 0 ? (
            <a href={`${commitHref(first.repo ?? repo, first.hash)}#merged`}>of {plural(merged, "commit")}</a>
          ) : null}
        </>
      ) : null}{" "}
      (
      {green === null ? (
        "never green before"
      ) : (
        <>
          green {since.kind === "recipe" ? "with what was before" : "before"} at{" "}
          <a href={`/b/${green.build}`} class="hash">
            {named(first.repo, green.hash)}
          </a>
          {between > 0 ? `, ${plural(between, "commit")} between` : ""}
          {since.kind === "recipe" ? "" : otherSide(since)}
        </>
      )}
      )
      {looking.length > 0 ? (
        <>
          , looking for the culprit:{" "}
          {looking.map((build, i) => (
            <span key={build}>
              {i > 0 ? ", " : ""}
              <a href={`/b/${build}`}>#{build}</a>
            </span>
          ))}
        </>
      ) : null}
      {" · "}
    </span>
  );
}

/** "a1b2c3d4", "go a1b2c3d4". */
function named(repo: string | null, hash: string): string {
  return `${repo === null ? "" : `${visible(repo)} `}${hash.slice(0, 8)}`;
}

/** What the other repository of a pair did meanwhile. */
function otherSide({ other }: Since): string {
  if (other === null) return "";
  if (other.from === null || other.to === null) return `, ${visible(other.repo)} is not what changed`;
  return `, but ${visible(other.repo)} moved too, from ${other.from.slice(0, 8)} to ${other.to.slice(0, 8)}`;
}

/** "this commit", "a1b2c3d4 Fix the parser by A. Author", "the configuration changed, this commit". */
function FirstRed(props: { since: Since }): JSX.Element {
  const { kind, first, other } = props.since;
  const moved = other !== null && other.from !== null && other.to !== null;
  return (
    <>
      {kind !== "recipe"
        ? null
        : moved
          ? `${visible(other.repo)} moved from ${other.from?.slice(0, 8)} to ${other.to?.slice(0, 8)}, `
          : "the configuration changed, "}
      {first.here ? (
        "this commit"
      ) : (
        <a href={`/b/${first.build}`} class="hash">
          {named(first.repo, first.hash)}
        </a>
      )}
      {kind === "commit" && !first.here ? (
        <>
          {" "}
          <bdi>{first.subject}</bdi> by <Name text={first.author} />
        </>
      ) : null}
    </>
  );
}

/** "since a1b2c3d4 Fix the parser by A. Author", "since a1b2c3d4 or one of 5 commits before it", "has never passed before". */
export function TestSince(props: { since: Since | null }): JSX.Element | null {
  const { since } = props;
  if (since === null) return null;
  if (since.kind === "never green") return <p class="test-since muted">has never passed before</p>;
  return (
    <p class="test-since muted">
      since <FirstRed since={since} />
      {since.between > 0 ? ` or one of ${plural(since.between, "commit")} before it` : ""}
    </p>
  );
}
