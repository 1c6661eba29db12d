/**
 * `/b/ID` and `/b/ID/STEP`: one build.
 *
 * The answer comes first: what failed, where, since when, and the lines that say why. Then come steps, log, attempts
 * and earlier builds. The log is that of the step in the address; else of the test that failed first; else of the
 * failing, the running or the last step.
 *
 * On a page that was opened while its build runs, nothing moves until the reader leaves. What the end of the build
 * brings is shown in room that was kept for it, over the end of the log, whose last lines it repeats, or below the log.
 * While a build only waits, no room is kept for what cannot be there yet: what the page shows then comes first, and
 * what the build brings once it begins comes after it.
 */
import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { commitHref, repoHref } from "../data.ts";
import { groupName } from "../group-name.ts";
import { LogViewer } from "../log-viewer.tsx";
import { Act, Mark, Name, Section, When, With } from "../parts.tsx";
import { SinceLine } from "../since.tsx";
import { STATUS } from "../status.ts";
import { GroupTitle, Tests, TroubledTests } from "../tests.tsx";
import { visible } from "../text.ts";
import { utc } from "../time.ts";
import { type BuildData, type Mini, TESTS_STEP, type WhyLine } from "./build-data.ts";
import { KeptMachine } from "./build-machine.tsx";
import { Facts, Line, Sentence } from "./build-sentence.tsx";
import { Attempts, Bar, Steps } from "./build-steps.tsx";
import { ByHand, Troubles, Why } from "./build-why.tsx";

export function BuildPage(props: { data: BuildData; operator: boolean }): JSX.Element {
  const { data } = props;
  const { build } = data;
  const [opened] = useState(build.endedAt === null ? build.status : null);
  const live = opened !== null;
  const [awaited] = useState(build.status === "waiting" && data.log === null);
  const begun = useRef(!awaited);
  // A build may wait again, for another machine. Then everything stays in its place.
  begun.current ||= build.status !== "waiting";
  const sharded = data.steps.some(({ name }) => name === TESTS_STEP);
  // A short log that is shown whole is shown only once: as a log if the address asks for it.
  const twice = data.log !== null && !live && shownLines(data).length >= data.log.total && data.log.total > 0;
  const hidden = twice && !data.named;
  const why =
    data.why === null || (twice && data.named) ? null : (
      <Why why={data.why} build={build.id} attempt={data.attempt} last={data.attempts.length} />
    );
  // A build without tests keeps no room: the lines stand over the end of the failed step's log.
  const over = live && !sharded && data.why?.step === data.step;
  const troubled = data.tests === null ? null : <TroubledTests build={build.id} tests={data.tests} />;
  const around = (
    <>
      {data.attempts.length > 1 ? <Attempts data={data} /> : null}
      <Minis title="Earlier results of this builder" minis={data.earlier} here={build.id} />
      <Minis title="The same commit elsewhere" minis={data.elsewhere} here={build.id} />
      {data.again.length > 1 ? (
        <Minis title="This commit on this builder, again" minis={data.again} here={build.id} />
      ) : null}
    </>
  );
  const failed = sharded ? (
    <Troubles none={data.why === null && troubles(data) === 0}>
      {why}
      {troubled}
    </Troubles>
  ) : null;
  const byHand = data.reproduce === null ? null : <ByHand reproduce={data.reproduce} />;
  const machine = data.machine === null ? null : <KeptMachine build={build.id} machine={data.machine} />;
  return (
    <>
      <Outcome data={data} operator={props.operator} live={live} awaited={awaited} />
      {!live ? (
        <>
          {why}
          {troubled}
          {byHand}
          {machine}
        </>
      ) : awaited ? null : (
        failed
      )}
      <Bar data={data} />
      <Steps data={data} />
      {awaited ? around : null}
      {awaited && begun.current ? failed : null}
      {data.group !== null && !hidden ? <GroupTitle group={data.group} /> : null}
      {hidden ? null : <Log data={data} live={live} begun={begun.current} over={over ? why : null} />}
      {live && !sharded && !over ? why : null}
      {live ? byHand : null}
      {live ? machine : null}
      {data.tests === null ? null : <Tests build={build.id} tests={data.tests} />}
      {awaited ? null : around}
    </>
  );
}

/**
 * The result of the build, or its state. `live`: the page was opened before the build ended. `awaited`: before it
 * began.
 */
function Outcome(props: { data: BuildData; operator: boolean; live: boolean; awaited: boolean }): JSX.Element {
  const { data, operator, live, awaited } = props;
  const { build } = data;
  const head = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    // What goes before the build is not shown any more once it begins.
    for (const part of awaited ? (head.current?.querySelectorAll<HTMLElement>("h1, .lead") ?? []) : [])
      part.style.minHeight = `${part.getBoundingClientRect().height}px`;
  });
  return (
    <header class={`outcome ${STATUS[build.status].css}`} ref={head}>
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
      <p class={live && !awaited ? "lead room" : "lead"}>
        <SinceLine key={`${build.status} ${data.since?.kind}`} since={data.since} repo={build.repo} />
        <Facts key={build.status} data={data} />
        {data.wait === null ? null : <Line wait={data.wait} build={build} />}
      </p>
      {operator ? (
        <div class="operate">
          {build.status === "running" || build.status === "waiting" ? (
            <Act action={`/b/${build.id}/cancel`} label="Cancel" danger />
          ) : (
            <Act action={`/b/${build.id}/rebuild`} label="Rebuild" />
          )}
        </div>
      ) : null}
    </header>
  );
}

/** The log. `over` is shown over its end, in room that is kept for it. */
function Log(props: { data: BuildData; live: boolean; begun: boolean; over: JSX.Element | null }): JSX.Element | null {
  const { data, live, begun, over } = props;
  if (data.log !== null) {
    const { base, attempt } = data.log;
    return (
      <LogViewer key={base + attempt} log={data.log} why={markedHere(data)} room={live ? "tall" : "fit"} over={over} />
    );
  }
  if (data.logDroppedAt !== null) {
    return (
      <p class="empty">
        The log of “{visible(data.step ?? "")}” was deleted on {utc(data.logDroppedAt).slice(0, 10)}: it had been kept
        for as long as the farm keeps logs.
      </p>
    );
  }
  return data.build.endedAt === null && begun ? <LogToCome /> : null;
}

/** The lines of the shown log that stand above it as well, in their order. */
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

/** The place of a log that has not begun, in the size that it will have. */
function LogToCome(): JSX.Element {
  return (
    <section class="log" aria-label="Log">
      <div class="log-bar muted">No output yet.</div>
      <div class="log-box to-come" />
    </section>
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
