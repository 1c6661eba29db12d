/** Since when a builder or one of its tests is red, in words: on the page of a failed build. */
import type { JSX } from "preact";
import { commitHref } from "./data.ts";
import { Name } from "./parts.tsx";
import { plural, visible } from "./text.ts";

/**
 * Since when a builder or a test is red: the first commit that is known to be red, and the last green one before it.
 */
export interface Since {
  /** The test that this is about, where the tests of a build broke at different commits. */
  readonly test: string | null;
  /**
   * What did it. `commit`: the first red commit. `recipe`: the configuration, or `other`. `range`: a commit between the
   * two, or the first red one.
   */
  readonly kind: "commit" | "recipe" | "range" | "never green";
  /** The other repository of a pair, and from which commit to which it moved meanwhile. Null: it did not move. */
  readonly other: { readonly repo: string; readonly from: string | null; readonly to: string | null } | null;
  readonly first: {
    /** The repository of both commits, when it is the other one of a pair. Null: it is the page's. */
    readonly repo: string | null;
    readonly hash: string;
    readonly build: number;
    /** Whether it is the commit of this page. */
    readonly here: boolean;
    readonly subject: string;
    readonly author: string;
    readonly merge: boolean;
  };
  readonly green: { readonly hash: string; readonly build: number } | null;
  /** How many commits between the two have no result. */
  readonly between: number;
  /** The numbers of the builds that run or wait to narrow it down. */
  readonly looking: readonly number[];
  /** How many commits it brought, when a merge did it. */
  readonly merged: number | null;
}

/** The sentence "red since a1b2c3d4 Fix the parser by A. Author (green before at 9f8e7d6c)". */
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
        "no green is known before"
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

/** A commit in words: "a1b2c3d4", or "go a1b2c3d4" of the repository go. */
function named(repo: string | null, hash: string): string {
  return `${repo === null ? "" : `${visible(repo)} `}${hash.slice(0, 8)}`;
}

/** How the other repository of a pair moved meanwhile. */
function otherSide({ other }: Since): string {
  if (other === null) return "";
  if (other.from === null || other.to === null) return `, ${visible(other.repo)} is not what changed`;
  return `, but ${visible(other.repo)} moved too, from ${other.from.slice(0, 8)} to ${other.to.slice(0, 8)}`;
}

/**
 * The first red commit in words: "this commit", "a1b2c3d4 Fix the parser by A. Author", "the configuration changed,
 * this commit".
 */
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

/**
 * Since when a test is red: "since a1b2c3d4 Fix the parser by A. Author", "since a1b2c3d4 or one of 5 commits before
 * it", "is not known to have passed before".
 */
export function TestSince(props: { since: Since | null }): JSX.Element | null {
  const { since } = props;
  if (since === null) return null;
  if (since.kind === "never green") return <p class="test-since muted">is not known to have passed before</p>;
  return (
    <p class="test-since muted">
      since <FirstRed since={since} />
      {since.between > 0 ? ` or one of ${plural(since.between, "commit")} before it` : ""}
    </p>
  );
}
