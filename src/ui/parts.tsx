/** Small parts that many pages use. */
import type { ComponentChildren, JSX } from "preact";
import type { Status } from "../farm/build.ts";
import { durationText } from "../farm/duration-text.ts";
import {
  type Ahead,
  type BuildLine,
  commitHref,
  type Estimate,
  type MachineMode,
  type MachineRef,
  machineHref,
  type OtherCommit,
  repoHref,
  type Wait,
} from "./data.ts";
import { useNow } from "./now.ts";
import { STATUS } from "./status.ts";
import { grouped, plural, visible } from "./text.ts";
import { about, ago, hour, range, running, utc } from "./time.ts";

/** A status as glyph, colour and word. Without `word`, the word is only for screen readers and hovering. */
export function Mark(props: { status: Status; word?: boolean }): JSX.Element {
  const look = STATUS[props.status];
  return (
    <span class={`mark ${look.css}`} title={look.word}>
      <span class="glyph" aria-hidden="true">
        {look.glyph}
      </span>
      <span class={props.word ? "word" : "sr"}>{look.word}</span>
    </span>
  );
}

const MODES: Readonly<Record<MachineMode, { glyph: string; css: string }>> = {
  idle: { glyph: "●", css: "ok" },
  busy: { glyph: "◐", css: "ru still" },
  away: { glyph: "○", css: "wa" },
  drained: { glyph: "⊘", css: "ca" },
  "set aside": { glyph: "▲", css: "fl" },
};

export function Mode(props: { mode: MachineMode }): JSX.Element {
  const look = MODES[props.mode];
  return (
    <span class={`mark ${look.css}`}>
      <span class="glyph" aria-hidden="true">
        {look.glyph}
      </span>
      <span class="word">{props.mode}</span>
    </span>
  );
}

/** The class of a name. Names are shown whole and on one line, unless they are absurdly long. */
export function nameClass(text: string): string {
  return text.length > 40 ? "name long" : "name";
}

/** A name that somebody else chose: its direction cannot reach the text around it. */
export function Name(props: { text: string }): JSX.Element {
  return <bdi>{visible(props.text)}</bdi>;
}

/** An age, "4 min ago"; the exact instant is shown on hover. */
export function When(props: { at: number }): JSX.Element {
  const text = useNow((now) => ago(props.at, now));
  return (
    <time datetime={new Date(props.at).toISOString()} title={utc(props.at)}>
      {text}
    </time>
  );
}

/** The time since `from`, counting up; or the time from `from` to `to`. */
export function Span(props: { from: number; to?: number | null }): JSX.Element {
  const text = useNow((now) =>
    typeof props.to === "number" ? durationText(props.to - props.from) : running(now - props.from),
  );
  return <span class="num">{text}</span>;
}

export function Machine(props: { machine: MachineRef }): JSX.Element {
  return (
    <a href={machineHref(props.machine)} class={nameClass(props.machine.name)}>
      <Name text={props.machine.name} />
    </a>
  );
}

/** A builder's name. It leads to the builder's results in `repo`, or without one to its configuration. */
export function Builder(props: { name: string; repo?: string }): JSX.Element {
  const name = encodeURIComponent(props.name);
  return (
    <a
      href={props.repo === undefined ? `/builders#${name}` : `${repoHref(props.repo)}?builders=${name}`}
      class={nameClass(props.name)}
    >
      <Name text={props.name} />
    </a>
  );
}

export function Commit(props: { repo: string; hash: string; subject?: string }): JSX.Element {
  return (
    <span class="commit">
      <a href={commitHref(props.repo, props.hash)} class="hash">
        {props.hash.slice(0, 8)}
      </a>
      {props.subject === undefined ? null : (
        <span class="subject" title={props.subject}>
          <bdi>{props.subject}</bdi>
        </span>
      )}
    </span>
  );
}

/** The other commit of a pair. */
export function With(props: { other: OtherCommit }): JSX.Element {
  const { repo, branch, hash } = props.other;
  return (
    <span class="with" title={visible(`with ${repo} at ${hash.slice(0, 12)}, the newest of ${branch} then`)}>
      with <Name text={repo} />{" "}
      <a href={commitHref(repo, hash)} class="hash">
        {hash.slice(0, 8)}
      </a>
    </span>
  );
}

export function Section(props: {
  id?: string;
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <section id={props.id}>
      <h2>
        {props.id ? (
          <a href={`#${props.id}`} class="anchor">
            {props.title}
          </a>
        ) : (
          props.title
        )}
        {props.aside ? <span class="aside">{props.aside}</span> : null}
      </h2>
      {props.children}
    </section>
  );
}

/** An item of a `<dl>`. */
export function Fact(props: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}

/** Links to the other pages of a list, if it has several. */
export function Pages(props: {
  of: string;
  page: number;
  pages: number;
  href: (page: number) => string;
}): JSX.Element | null {
  const { page, pages, href } = props;
  if (pages <= 1) return null;
  return (
    <nav class="pages" aria-label={`Pages of ${props.of}`}>
      {page > 1 ? <a href={href(page - 1)}>previous</a> : null}
      <span>
        page {grouped(page)} of {grouped(pages)}
      </span>
      {page < pages ? <a href={href(page + 1)}>next</a> : null}
    </nav>
  );
}

export function Empty(props: { children: ComponentChildren }): JSX.Element {
  return <p class="empty">{props.children}</p>;
}

/**
 * A table that scrolls by itself on a narrow screen, so that the page does not. With `cols`, a class for each column,
 * style.css sets the widths, whatever the cells hold: nothing moves when a row comes or goes.
 */
export function Table(props: {
  label: string;
  class?: string;
  cols?: readonly string[];
  head: readonly string[];
  children: ComponentChildren;
}): JSX.Element {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
    <section class="scroll" tabIndex={0} aria-label={props.label}>
      <table class={props.cols ? `${props.class ?? ""} fixed` : props.class}>
        {props.cols ? (
          <colgroup>
            {props.cols.map((col, i) => (
              <col key={i} class={`c-${col}`} />
            ))}
          </colgroup>
        ) : null}
        <thead>
          <tr>
            {props.head.map((title) => (
              <th key={title} scope="col" class={title.startsWith("#") ? "right" : undefined}>
                {title.replace("#", "")}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </section>
  );
}

/** A button that changes something: a form, so that it works without script. */
export function Act(props: {
  action: string;
  label: string;
  note?: string;
  danger?: boolean;
  children?: ComponentChildren;
}): JSX.Element {
  return (
    <form method="post" action={props.action} class="act">
      {props.note === undefined ? null : (
        <input name="note" placeholder={props.note} aria-label={props.note} maxLength={200} />
      )}
      {props.children}
      <button type="submit" class={props.danger ? "danger" : undefined}>
        {props.label}
      </button>
    </form>
  );
}

/** Asks once more before something that cannot be undone, and says what it means. Works without script. */
export function Sure(props: { word: string; sentence: string; children: ComponentChildren }): JSX.Element {
  return (
    <details class="sure">
      <summary>{props.word}</summary>
      <p>{props.sentence}</p>
      {props.children}
    </details>
  );
}

/** What a lease without a build is for, in a word. */
export function purpose(kind: string): string {
  return kind === "probe" ? "trial" : kind;
}

/** Why a build waits, in a sentence. */
export function waitSentence(wait: Wait, hostType: string): string {
  if (wait.drained !== null)
    return `${visible(hostType)} is drained${wait.drained === "" ? "" : `: ${visible(wait.drained)}`}`;
  if (wait.known === 0 && !wait.configured) return `the configuration has no host type ${visible(hostType)}`;
  if (wait.machines === 0) return nobodyServes(wait, `no machine of ${visible(hostType)}`);
  const place = wait.place === 1 ? "next in line" : `${wait.more ? "after the " : ""}${ordinal(wait.place)} in line`;
  const until = wait.estimate === null ? "" : `, ${startsIn(wait.estimate)}`;
  const starving = wait.starving ? ", waited too long and goes before its turn" : "";
  const gone = wait.configured ? "" : `; the configuration has no ${visible(hostType)} any more`;
  if (wait.avoiding) {
    const { machines, until: end } = wait.avoiding;
    const [first = ""] = machines;
    const than = machines.length === 1 ? visible(first) : `the ${grouped(machines.length)} that are idle`;
    return `${place}: waits until ${hour(end)} for a machine other than ${than}${until}${starving}${gone}`;
  }
  if (wait.behind)
    return `${place}: ${visible(wait.behind.machine.name)} is busy with #${wait.behind.build}${until}${starving}${gone}`;
  if (wait.busy >= wait.machines)
    return `${place}: all ${plural(wait.machines, "machine")} busy${until}${starving}${gone}`;
  return `${place}${until}${starving}${gone}`;
}

/**
 * Why no machine can take the waiting work: the known ones are set aside, drained or not connected. `nobody` begins the
 * sentence if there are several.
 */
export function nobodyServes(
  { aside, resting, known }: Pick<Wait, "aside" | "resting" | "known">,
  nobody: string,
): string {
  const [first, ...others] = aside;
  const away = known - aside.length - resting;
  if (known === 0) return `${nobody} has ever connected`;
  if (away === 1 && known === 1) return "its only machine is not connected";
  if (!first && resting === 0) return `${nobody} is connected (${plural(known, "machine")} known)`;
  if (first && known === 1)
    return `its only machine ${visible(first.name)} is set aside until ${hour(first.until)}: ${visible(first.reason)}`;
  if (!first && known === 1) return "its only machine is drained";
  const parts = [
    ...(first
      ? [
          `${others.length === 0 ? visible(first.name) : `${aside.length} machines`} set aside until ${hour(first.until)}`,
        ]
      : []),
    ...(resting > 0 ? [`${grouped(resting)} drained`] : []),
    ...(away > 0 ? [`${grouped(away)} not connected`] : []),
  ];
  return `${nobody} takes work: ${parts.join(", ")}`;
}

export function startsIn(estimate: Estimate): string {
  return range(estimate.earliestMs, estimate.latestMs);
}

/** What goes before a build, in words: "2 that waited too long, 4 of app, 6 other post-submit". */
export function aheadSentence(ahead: Ahead, repo: string | null): string {
  const parts = [
    ...(ahead.starving > 0 ? [`${grouped(ahead.starving)} that waited too long`] : []),
    ...(ahead.same > 0 ? [`${grouped(ahead.same)} of ${visible(repo ?? "the same repository")}`] : []),
    ...ahead.others.map((other) => `${grouped(other.count)} other ${other.class}`),
  ];
  return parts.length === 0 ? "nothing" : parts.join(", ");
}

function ordinal(n: number): string {
  const tail = n % 100 >= 11 && n % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][n % 10] ?? "th");
  return `${n}${tail}`;
}

/** How much longer a running build is likely to take. Empty when that is not known. */
export function Left(props: { build: BuildLine }): JSX.Element | null {
  const { startedAt, usualMs } = props.build;
  const text = useNow((now) => {
    if (startedAt === null || usualMs === null) return "";
    const left = startedAt + usualMs - now;
    return left > 0 ? `${about(left)} left` : `${durationText(-left)} over its usual time`;
  });
  return text === "" ? null : <span class="muted">{text}</span>;
}

/** A column chart, 24 px high. `title` says in words what it shows. */
export function Columns(props: {
  title: string;
  series: readonly (readonly { css: string; value: number }[])[];
}): JSX.Element {
  const sums = props.series.map((parts) => parts.reduce((sum, part) => sum + part.value, 0));
  const top = Math.max(1, ...sums);
  const width = 8;
  return (
    <svg
      class="columns"
      viewBox={`0 0 ${props.series.length * width} 24`}
      role="img"
      aria-label={props.title}
      preserveAspectRatio="none"
    >
      <title>{props.title}</title>
      {props.series.map((parts, x) => {
        let y = 24;
        return parts.map((part) => {
          const height = Math.max(part.value > 0 ? 1 : 0, (part.value / top) * 23);
          y -= height;
          return (
            <rect key={`${x} ${part.css}`} class={part.css} x={x * width} y={y} width={width - 2} height={height} />
          );
        });
      })}
    </svg>
  );
}
