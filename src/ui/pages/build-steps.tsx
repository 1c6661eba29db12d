/** The steps of a build, to scale and by name, and its attempts. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { durationText } from "../../farm/duration-text.ts";
import { stepHref } from "../data.ts";
import { useNow } from "../now.ts";
import { Machine, Mark, Name, Section, Span, Table } from "../parts.tsx";
import { STATUS } from "../status.ts";
import { visible } from "../text.ts";
import { type BuildData, TESTS_STEP } from "./build-data.ts";

/**
 * Where the time went, step by step, to scale. While the build runs, the bar is the time that it usually takes, filled
 * up to now. The time that it waited is told in words below: it may be hours, and the bar is about the rest. Widths are
 * attributes of SVG, since the page allows no inline style.
 */
export function Bar(props: { data: BuildData }): JSX.Element | null {
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
  const words = parts.map((part) => `${visible(part.name)} ${durationText(part.span)}`).join(", ");
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
            <title>{`${visible(part.name)} ${durationText(part.span)}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}

export function Steps(props: { data: BuildData }): JSX.Element | null {
  const { steps, build, attempt, attempts, group } = props.data;
  const shown = group === null ? props.data.step : TESTS_STEP;
  // Decided once: nothing moves on a page that was opened while the build runs.
  const [live] = useState(build.endedAt === null);
  if (steps.length === 0) return null;
  const current = attempts.find((a) => a.number === attempt);
  // The tree is kept as it was before the tests.
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

export function Attempts(props: { data: BuildData }): JSX.Element {
  const { attempts, attempt: shown, build } = props.data;
  return (
    <Section id="attempts" title="Attempts">
      <Table label="Attempts" class="config" head={["Attempt", "Machine", "#Waited", "#Ran", "Why it ended"]}>
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
            <td data-label="Machine">
              {attempt.machine ? <Machine machine={attempt.machine} /> : <span class="muted">none</span>}
            </td>
            <td class="right" data-label="Waited">
              <Span from={attempt.createdAt} to={attempt.startedAt ?? attempt.endedAt} />
            </td>
            <td class="right" data-label="Ran">
              {attempt.startedAt === null ? null : <Span from={attempt.startedAt} to={attempt.endedAt} />}
            </td>
            <td {...(attempt.reason === null ? {} : { "data-label": "Ended" })}>{visible(attempt.reason ?? "")}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}
