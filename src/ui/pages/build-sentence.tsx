/** The head of a build's page: its state, what goes before it while it waits, and the facts about it. */
import type { JSX } from "preact";
import { durationText } from "../../farm/duration-text.ts";
import { type BuildLine, commitHref, stepHref, type Wait } from "../data.ts";
import { useNow } from "../now.ts";
import { aheadSentence, Builder, Left, Machine, Name, Span, startsIn, When, waitSentence } from "../parts.tsx";
import { plural, visible } from "../text.ts";
import { atMost } from "../time.ts";
import type { BuildData } from "./build-data.ts";

/** The headline: "linux-amd64 failed in “test” after 3m 02s". */
export function Sentence(props: { data: BuildData }): JSX.Element {
  const { build, wait, away, tests } = props.data;
  const took = build.startedAt === null ? null : <Span from={build.startedAt} to={build.endedAt} />;
  const step = build.step === null ? null : <>“{visible(build.step)}”</>;
  const name = <Builder name={build.builder} repo={build.repo} />;
  switch (build.status) {
    case "success":
      return (
        <>
          {name} passed in {took}
        </>
      );
    case "flaky":
      return (
        <>
          {name} passed in {took}, with {plural(build.tests?.flaky ?? 0, "flaky test")}
        </>
      );
    case "failure":
      return (
        <>
          {name} failed{step ? <> in {step}</> : null} after {took}
        </>
      );
    case "known_issue":
      return (
        <>
          {name} failed{step ? <> in {step}</> : null} after {took}, a known issue
        </>
      );
    case "infra_failure":
      return <>{name} could not be built: the farm's fault, not the code's</>;
    case "canceled":
      return <>{name} was canceled</>;
    case "skipped":
      return <>{name} was skipped</>;
    case "running":
      if (away !== null && tests?.machines.some(({ name: other, running }) => other !== away.machine && running > 0))
        return (
          <>
            {name} is running {step} {tests.ended}/{tests.total} on other machines; <Name text={away.machine} /> may
            come back <Limit at={away.until} />
          </>
        );
      if (away !== null)
        return (
          <>
            {name} waits for <Name text={away.machine} /> to come back <Limit at={away.until} />
          </>
        );
      if (tests !== null && tests.kept !== null)
        return (
          <>
            {name} waits for another machine to run “{visible(tests.kept.name)}”
            {tests.kept.count > 1 ? ` and ${tests.kept.count - 1} more` : ""} once more <Limit at={tests.kept.until} />
          </>
        );
      return (
        <>
          {name} is running{step ? <> {step}</> : null}
          {build.tests === null ? "" : ` ${build.tests.ended}/${build.tests.total}`} for {took}
        </>
      );
    default:
      return (
        <>
          {name} waits{wait ? `: ${waitSentence(wait, build.hostType)}` : ""}
        </>
      );
  }
}

/** The rest of a limit: "(up to 4 more minutes)". Empty once the time is over. */
function Limit(props: { at: number }): JSX.Element | null {
  const text = useNow((now) => (props.at > now ? `(${atMost(props.at - now)})` : ""));
  return text === "" ? null : <span>{text}</span>;
}

/** Its place in the queue: what goes before it, and how sure the estimate is. */
export function Line(props: { wait: Wait; build: BuildLine }): JSX.Element {
  const { wait, build } = props;
  const { estimate, unknown, ahead } = wait;
  const served = wait.machines > 0 && wait.drained === null; // else the headline says why
  return (
    <span class="line muted">
      Before it{wait.more ? ", of the first thousand" : ""}: {aheadSentence(ahead, build.repo)}
      {ahead.builds.map((id, i) => (
        <>
          {i === 0 ? " (" : ", "}
          <a href={`/b/${id}`} class="num">
            #{id}
          </a>
        </>
      ))}
      {ahead.builds.length === 0 ? "" : wait.place - 1 > ahead.builds.length ? ", …)" : ")"}.{" "}
      {estimate === null
        ? `When it begins nobody can say${served && unknown !== null ? `: ${visible(unknown)}` : ""}. `
        : `By recent durations it begins three times in four in ${startsIn(estimate)}, half of the times within ${durationText(estimate.aboutMs)}, if nothing comes that goes before it. `}
      <a href={`/queues#${encodeURIComponent(build.hostType)}`}>The whole queue</a>
    </span>
  );
}

/** The facts. Why the build ended stands first. Numbers that change stand last, so that nothing after them moves. */
export function Facts(props: { data: BuildData }): JSX.Element {
  const { build, attempt, attempts, requestedBy, rebuildOf, knownIssues, narrows, away, steps, step } = props.data;
  const query = attempt === attempts.length ? "" : `?attempt=${attempt}`;
  const facts = [
    build.reason !== null && !steps.some(({ exit }) => exit === build.reason) && (
      <Reason reason={build.reason} repo={build.repo} />
    ),
    <>build #{build.id}</>,
    build.machine && (
      <>
        on <Machine machine={build.machine} />
      </>
    ),
    attempts.length > 1 && `attempt ${attempt}`,
    requestedBy !== null && (
      <>
        asked for by <Name text={requestedBy} />
      </>
    ),
    narrows && requestedBy === null && "planned to find the culprit",
    rebuildOf !== null && (
      <>
        again after <a href={`/b/${rebuildOf}`}>#{rebuildOf}</a>
      </>
    ),
    knownIssues.length > 0 && `known issue ${visible(knownIssues.join(", "))}`,
    step !== null && <a href={`${stepHref(build.id, step)}/log${query}`}>raw log</a>,
    build.endedAt !== null && (
      <>
        ended <When at={build.endedAt} />
      </>
    ),
    build.status === "running" && away === null && build.usualMs !== null && <Left build={build} />,
  ].filter((fact) => fact !== null && fact !== false);
  return <>{facts.flatMap((fact, i) => (i === 0 ? [fact] : [" · ", fact]))}</>;
}

/** Why the build ended, with a link to the commit that overtook it. */
function Reason(props: { reason: string; repo: string }): JSX.Element {
  const [, before, hash, after] = /^(overtaken by )([0-9a-f]{8})\b(.*)$/s.exec(props.reason) ?? [];
  if (hash === undefined) return <>{visible(props.reason)}</>;
  return (
    <>
      {before}
      <a href={commitHref(props.repo, hash)} class="hash">
        {hash}
      </a>
      {visible(after ?? "")}
    </>
  );
}
