/**
 * `/b/ID` and `/b/ID/STEP`: one build. The answer first: what failed, where, since when, and the lines that say why; then steps, log, attempts
 * and what came before. The log is the step's that the address names, else that of the test that failed first, else the failing, the running or
 * the last step's.
 *
 * A page that is opened while its build waits or runs keeps the places of its things until it is left: what the end brings stands in room that
 * was kept for it, or below the log.
 */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { Status } from "../../farm/build.ts";
import { type BuildLine, commitHref, type MachineRef, repoHref, stepHref, type Wait } from "../data.ts";
import { groupName } from "../group-name.ts";
import { type LogData, LogViewer } from "../log-viewer.tsx";
import { useNow } from "../now.ts";
import {
  Act,
  aheadSentence,
  Builder,
  Left,
  Machine,
  Mark,
  Name,
  Section,
  Span,
  startsIn,
  Table,
  When,
  With,
  waitSentence,
} from "../parts.tsx";
import { type Since, SinceLine } from "../since.tsx";
import { STATUS } from "../status.ts";
import { type GroupData, GroupTitle, Tests, type TestsData, TroubledTests } from "../tests.tsx";
import { plural, visible } from "../text.ts";
import { atMost, duration, utc } from "../time.ts";

/** The step in which a build runs its tests. */
const TESTS_STEP = "tests";

export interface StepRow {
  readonly name: string;
  readonly status: Status;
  /** As the machine said it: `ok`, `exit status 2`; null until the step ended. */
  readonly exit: string | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly hasLog: boolean;
}

export interface AttemptRow {
  readonly number: number;
  readonly status: Status;
  readonly reason: string | null;
  readonly machine: MachineRef | null;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** Whether its tree was kept, or why not. */
  readonly snapshot: string | null;
}

/** Lines of the failing step that are likely to say why; `line` counts from 1. */
export interface WhyLine {
  readonly line: number;
  readonly text: string;
  readonly marked: boolean;
}

/** How to repeat by hand what failed: commands for a POSIX shell, without the variables of `hidden`; or why there are none. */
export type Reproduce = { readonly step: string } & (
  | { readonly commands: string; readonly hidden: readonly string[] }
  | { readonly cannot: string }
);

export interface Mini {
  readonly build: number;
  readonly label: string;
  readonly status: Status;
}

export interface BuildData {
  readonly build: BuildLine;
  readonly committedAt: number;
  readonly provenance: string;
  readonly requestedBy: string | null;
  readonly rebuildOf: number | null;
  readonly knownIssues: readonly string[];
  /** Planned by the farm to find out which commit broke the builder. */
  readonly narrows: boolean;
  readonly since: Since | null;
  /** null: none of its steps failed. */
  readonly reproduce: Reproduce | null;
  readonly why: { readonly step: string; readonly lines: readonly WhyLine[] } | null;
  readonly wait: Wait | null;
  /** null: it has no tests of its own, or they are not listed yet. */
  readonly tests: TestsData | null;
  readonly attempt: number;
  readonly attempts: readonly AttemptRow[];
  /** Its machine is gone and may come back, until then, with the command that it runs. */
  readonly away: { readonly machine: string; readonly until: number } | null;
  readonly steps: readonly StepRow[];
  /** The step, or the group of tests, whose log is shown. */
  readonly step: string | null;
  /** Whether the address names it. */
  readonly named: boolean;
  /** Of a group of tests: what it ran and where. */
  readonly group: GroupData | null;
  readonly log: LogData | null;
  /** When the log of `step` was deleted since it was old. */
  readonly logDroppedAt: number | null;
  readonly earlier: readonly Mini[];
  readonly elsewhere: readonly Mini[];
  readonly again: readonly Mini[];
}

export function BuildPage(props: { data: BuildData; operator: boolean }): JSX.Element {
  const { data } = props;
  const { build } = data;
  const [opened] = useState(build.endedAt === null ? build.status : null);
  const live = opened !== null;
  const sharded = data.steps.some(({ name }) => name === TESTS_STEP);
  // A short log that is here in whole is shown once: as a log where the address asks for it.
  const twice = data.log !== null && !live && shownLines(data).length >= data.log.total && data.log.total > 0;
  const hidden = twice && !data.named;
  const why =
    data.why === null || (twice && data.named) ? null : (
      <Why why={data.why} build={build.id} attempt={data.attempt} last={data.attempts.length} />
    );
  const troubled = data.tests === null ? null : <TroubledTests build={build.id} tests={data.tests} />;
  const byHand = data.reproduce === null ? null : <ByHand reproduce={data.reproduce} />;
  return (
    <>
      <header class={`outcome ${STATUS[build.status].css}`}>
        <h1>
          <Mark status={build.status} /> <Sentence key={`${build.status} ${build.step}`} data={data} />
        </h1>
        <p class="lead">
          <a href={repoHref(build.repo)}>
            <Name text={build.repo} />
          </a>{" "}
          @{" "}
          <a href={commitHref(build.repo, build.hash)} class="hash">
            {build.hash.slice(0, 8)}
          </a>{" "}
          <bdi>{build.subject}</bdi> <span class="muted">—</span> <Name text={build.author} />,{" "}
          <When at={data.committedAt} />
          {build.other === null ? null : (
            <>
              {" "}
              <With other={build.other} />
            </>
          )}
        </p>
        <p class={opened === null ? "lead" : `lead room ${opened}`}>
          <SinceLine key={`${build.status} ${data.since?.kind}`} since={data.since} repo={build.repo} />
          <Facts key={build.status} data={data} />
          {data.wait === null ? null : <Line wait={data.wait} build={build} />}
        </p>
        {props.operator ? (
          <div class="operate">
            {build.status === "running" || build.status === "waiting" ? (
              <Act action={`/b/${build.id}/cancel`} label="Cancel" danger />
            ) : (
              <Act action={`/b/${build.id}/rebuild`} label="Rebuild" />
            )}
          </div>
        ) : null}
      </header>
      {!live ? (
        <>
          {why}
          {troubled}
          {byHand}
        </>
      ) : sharded ? (
        <Troubles none={data.why === null && troubles(data) === 0}>
          {why}
          {troubled}
        </Troubles>
      ) : null}
      <Bar data={data} />
      <Steps data={data} />
      {data.group !== null && !hidden ? <GroupTitle group={data.group} /> : null}
      {data.log !== null && hidden ? null : data.log !== null ? (
        <LogViewer
          key={data.log.base + data.log.attempt}
          log={data.log}
          why={markedHere(data)}
          room={opened === "waiting" ? "low" : live ? "tall" : "fit"}
        />
      ) : data.logDroppedAt !== null ? (
        <p class="empty">
          The log of “{visible(data.step ?? "")}” was deleted on {utc(data.logDroppedAt).slice(0, 10)}: it had been kept
          for as long as the farm keeps logs.
        </p>
      ) : build.endedAt === null ? (
        <LogToCome low={opened === "waiting"} />
      ) : null}
      {live ? byHand : null}
      {data.tests === null ? null : <Tests build={build.id} tests={data.tests} />}
      {data.attempts.length > 1 ? <Attempts data={data} /> : null}
      <Minis title="Earlier results of this builder" minis={data.earlier} here={build.id} />
      <Minis title="The same commit elsewhere" minis={data.elsewhere} here={build.id} />
      {data.again.length > 1 ? (
        <Minis title="This commit on this builder, again" minis={data.again} here={build.id} />
      ) : null}
    </>
  );
}

/** Lines of the log that is shown which stand above it as well, in their order. */
function shownLines({ why, tests, group, step }: BuildData): readonly WhyLine[] {
  if (group === null) return why !== null && why.step === step ? why.lines : [];
  const here = (tests?.failures ?? []).filter((test) => test.group !== null && groupName(test.group) === step);
  const lines = new Map(here.flatMap((test) => test.lines).map((line) => [line.line, line]));
  return [...lines.values()].toSorted((a, b) => a.line - b.line);
}

function markedHere(data: BuildData): readonly number[] {
  return shownLines(data)
    .filter((line) => line.marked)
    .map((line) => line.line);
}

function troubles({ tests }: BuildData): number {
  return tests === null ? 0 : tests.failures.length + tests.flakes.length;
}

/** Room for tests that fail while somebody looks on: it is as high before as after. */
function Troubles(props: { none: boolean; children: ComponentChildren }): JSX.Element {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
    <section class="troubles" tabIndex={0} aria-label="What failed">
      {props.none ? <p class="muted">No test has failed yet.</p> : props.children}
    </section>
  );
}

/** The place of a log that has not begun, as large as it will be. */
function LogToCome(props: { low: boolean }): JSX.Element {
  return (
    <section class="log" aria-label="Log">
      <div class="log-bar muted">No output yet.</div>
      <div class={`log-box to-come${props.low ? " low" : ""}`} />
    </section>
  );
}

/** "linux-amd64 failed in “test” after 3m 02s". */
function Sentence(props: { data: BuildData }): JSX.Element {
  const { build, wait, away } = props.data;
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
      if (away !== null)
        return (
          <>
            {name} waits for <Name text={away.machine} /> to come back <Limit at={away.until} />
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

/** "(up to 4 more minutes)"; nothing once the time is over. */
function Limit(props: { at: number }): JSX.Element | null {
  const text = useNow((now) => (props.at > now ? `(${atMost(props.at - now)})` : ""));
  return text === "" ? null : <span>{text}</span>;
}

/** Its line of the queue: what goes before it, and how sure the estimate is. */
function Line(props: { wait: Wait; build: BuildLine }): JSX.Element {
  const { wait, build } = props;
  const { estimate, unknown, ahead } = wait;
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
        ? `When it begins nobody can say: ${visible(unknown ?? "nothing is known")}. `
        : `By recent durations it begins three times in four in ${startsIn(estimate)}, half of the times within ${duration(estimate.aboutMs)}, if nothing comes that goes before it. `}
      <a href={`/queues#${encodeURIComponent(build.hostType)}`}>The whole queue</a>
    </span>
  );
}

/** What counts down or grows stands last, so that nothing after it moves. */
function Facts(props: { data: BuildData }): JSX.Element {
  const { build, attempt, attempts, requestedBy, rebuildOf, knownIssues, narrows, away, steps, step } = props.data;
  const query = attempt === attempts.length ? "" : `?attempt=${attempt}`;
  const facts = [
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
    build.reason !== null && !steps.some(({ exit }) => exit === build.reason) && (
      <Reason reason={build.reason} repo={build.repo} />
    ),
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

/** Why it ended, with the commit that overtook it as a link. */
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

function Why(props: { why: NonNullable<BuildData["why"]>; build: number; attempt: number; last: number }): JSX.Element {
  const base =
    stepHref(props.build, props.why.step) + (props.attempt === props.last ? "" : `?attempt=${props.attempt}`);
  let before = 0;
  return (
    <section class="why" aria-label="Why it failed">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
      <section class="lines" tabIndex={0} aria-label={`Last lines of ${visible(props.why.step)}`}>
        {props.why.lines.map((line) => {
          const gap = before > 0 && line.line > before + 1;
          before = line.line;
          return (
            <div key={line.line} class={`${line.marked ? "row hit" : "row"}${gap ? " gap" : ""}`}>
              <a class="ln" href={`${base}#L${line.line}`} aria-label={`line ${line.line}`}>
                {line.line}
              </a>
              <span class="tx">{line.text === "" ? " " : line.text}</span>
            </div>
          );
        })}
      </section>
    </section>
  );
}

/** The text is what is copied, and is all of it: nothing of ours is in it. */
function ByHand({ reproduce }: { reproduce: Reproduce }): JSX.Element {
  return (
    <details class="by-hand">
      <summary>Reproduce “{visible(reproduce.step)}” by hand</summary>
      {"cannot" in reproduce ? (
        <p class="muted">{visible(reproduce.cannot)}</p>
      ) : (
        <>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
          <section class="commands" tabIndex={0} aria-label="Commands for a POSIX shell">
            <pre>
              <code dir="ltr">{reproduce.commands}</code>
            </pre>
          </section>
          {reproduce.hidden.length === 0 ? null : (
            <p class="muted">Not shown, since it may be secret: {visible(reproduce.hidden.join(", "))}</p>
          )}
        </>
      )}
    </details>
  );
}

/**
 * Where the time went, step by step, to scale; while it runs, up to now, of the time that it usually takes. What it waited is told in words
 * below: it may be hours, and the bar is about the rest. Widths are attributes of SVG since the page allows no inline style.
 */
function Bar(props: { data: BuildData }): JSX.Element | null {
  const { steps, build } = props.data;
  const live = build.endedAt === null;
  const seconds = useNow((now) => (live ? String(Math.floor(now / 1000)) : ""));
  const now = Number(seconds) * 1000;
  const parts: { name: string; css: string; span: number }[] = [];
  for (const step of steps)
    if (step.startedAt !== null && (step.endedAt !== null || step.status === "running"))
      parts.push({
        name: step.name,
        css: STATUS[step.status].css,
        span: Math.max(0, (step.endedAt ?? now) - step.startedAt),
      });
  const gone = parts.reduce((sum, part) => sum + part.span, 0);
  const whole = Math.max(gone, live ? (build.usualMs ?? 0) : 0);
  if (whole <= 0) return live ? <div class="timeline" /> : null;
  const words = parts.map((part) => `${visible(part.name)} ${duration(part.span)}`).join(", ");
  let x = 0;
  return (
    <svg class="timeline" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label={`Time: ${words}`}>
      {parts.map((part) => {
        const width = (part.span / whole) * 1000;
        const at = x;
        x += width;
        return (
          <rect
            key={part.name}
            class={part.css}
            x={at.toFixed(1)}
            y="0"
            width={Math.max(1, width - 2).toFixed(1)}
            height="10"
          >
            <title>{`${visible(part.name)} ${duration(part.span)}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}

function Steps(props: { data: BuildData }): JSX.Element | null {
  const { steps, build, attempt, attempts, group } = props.data;
  const shown = group === null ? props.data.step : TESTS_STEP;
  const [live] = useState(build.endedAt === null); // decided once: what runs when the page is opened keeps its places
  if (steps.length === 0) return null;
  const current = attempts.find((a) => a.number === attempt);
  // The tree is kept as the steps before the tests left it.
  const made = steps.findLast((step) => step.name !== TESTS_STEP)?.name;
  const query = attempt === attempts.length ? "" : `?attempt=${attempt}`;
  return (
    <nav class={live ? "steps live" : "steps"} aria-label="Steps">
      <span class="step">
        <span class="muted">
          waited{" "}
          <Span
            from={attempt > 1 ? (current?.createdAt ?? build.createdAt) : build.createdAt}
            to={current?.startedAt ?? build.endedAt}
          />
          {attempt > 1 ? ", again after an infra failure" : ""}
        </span>
      </span>
      {steps.map((step) => {
        const text = (
          <>
            <Mark status={step.status} /> <Name text={step.name} />{" "}
            <span class="muted took">
              {step.startedAt === null ? "" : <Span from={step.startedAt} to={step.endedAt} />}
            </span>
            {step.exit !== null && step.exit !== "ok" ? <span class="muted"> {visible(step.exit)}</span> : null}
          </>
        );
        const title = step.name === made && current?.snapshot ? { title: `snapshot ${visible(current.snapshot)}` } : {};
        if (!step.hasLog)
          return (
            <span key={step.name} class="step" {...title}>
              {text}
            </span>
          );
        return (
          <a
            key={step.name}
            class="step"
            href={stepHref(build.id, step.name) + query}
            {...title}
            {...(step.name === shown ? { "aria-current": "true" as const } : {})}
          >
            {text}
          </a>
        );
      })}
    </nav>
  );
}

function Attempts(props: { data: BuildData }): JSX.Element {
  const { attempts, attempt: shown, build } = props.data;
  return (
    <Section id="attempts" title="Attempts">
      <Table label="Attempts" head={["Attempt", "Machine", "#Waited", "#Ran", "Why it ended"]}>
        {attempts.map((attempt) => (
          <tr key={attempt.number}>
            <td class="tight">
              <a
                href={`/b/${build.id}?attempt=${attempt.number}`}
                {...(attempt.number === shown ? { "aria-current": "true" as const } : {})}
              >
                <Mark status={attempt.status} /> attempt {attempt.number}
              </a>
            </td>
            <td>{attempt.machine ? <Machine machine={attempt.machine} /> : <span class="muted">none</span>}</td>
            <td class="right">
              <Span from={attempt.createdAt} to={attempt.startedAt ?? attempt.endedAt} />
            </td>
            <td class="right">
              {attempt.startedAt === null ? null : <Span from={attempt.startedAt} to={attempt.endedAt} />}
            </td>
            <td>{visible(attempt.reason ?? "")}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

function Minis(props: { title: string; minis: readonly Mini[]; here: number }): JSX.Element | null {
  if (props.minis.length === 0) return null;
  return (
    <Section title={props.title}>
      <ul class="minis">
        {props.minis.map((mini) => {
          const look = STATUS[mini.status];
          const label = `${visible(mini.label)}: ${look.word}`;
          return (
            <li key={mini.build}>
              <a
                href={`/b/${mini.build}`}
                class={`cell ${look.css}`}
                title={label}
                aria-label={label}
                {...(mini.build === props.here ? { "aria-current": "true" as const } : {})}
              >
                {look.glyph}
              </a>
            </li>
          );
        })}
      </ul>
    </Section>
  );
}
