/** The parts that pages about instances share. An instance is a machine that somebody has borrowed. */
import type { JSX } from "preact";
import { durationText } from "../farm/duration-text.ts";
import type { MachineRef } from "./data.ts";
import { useNow } from "./now.ts";
import { Act, Machine, Name, Span, Table, When } from "./parts.tsx";
import { STATUS } from "./status.ts";
import { plural, visible } from "./text.ts";

export type InstanceState = "waiting" | "up" | "away" | "ended";

/** One instance as a line of a table, and the top of its page. */
export interface InstanceLine {
  readonly id: number;
  readonly name: string;
  readonly email: string;
  readonly builderType: string;
  readonly hostType: string;
  readonly machine: MachineRef | null;
  readonly state: InstanceState;
  readonly createdAt: number;
  readonly upAt: number | null;
  /** When it ends unless it is used before. While it waits: when the waiting ends. */
  readonly expiresAt: number;
  readonly limitAt: number | null;
  readonly endedAt: number | null;
  readonly endReason: string | null;
  /** How many others stand before it while it waits. */
  readonly ahead: number | null;
  /** A command that runs there now, and how many more run. */
  readonly running: { readonly command: string; readonly more: number } | null;
}

/**
 * The instance as which a machine is lent. A name says who has the machine, so it is null for visitors who may not
 * know.
 */
export interface LentAs {
  readonly name: string | null;
}

export interface CommandLine {
  readonly id: number;
  readonly instanceId: number;
  readonly instance: string;
  readonly who: string;
  /** The beginning of its words. */
  readonly command: string;
  readonly dir: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly state: string | null;
  /** Set while somebody wants it killed: how it will have ended. */
  readonly kill: string | null;
  readonly recorded: boolean;
}

/** One page of commands: first those that run, then those that ended, each the newest first. */
export interface CommandPage {
  readonly lines: readonly CommandLine[];
  readonly isFirst: boolean;
  /** Where the next page begins. Null: there is none. */
  readonly next: string | null;
}

const STATES: Readonly<Record<InstanceState, { glyph: string; css: string; word: string }>> = {
  waiting: { glyph: "○", css: "wa", word: "waits for a machine" },
  up: { glyph: "●", css: "ok", word: "up" },
  away: { glyph: "▲", css: "fl", word: "its machine is away, and waited for" },
  ended: { glyph: "·", css: "sk", word: "ended" },
};

export function StateMark(props: { state: InstanceState }): JSX.Element {
  const look = STATES[props.state];
  return (
    <span class={`mark ${look.css}`}>
      <span class="glyph" aria-hidden="true">
        {look.glyph}
      </span>
      <span class="word">{look.word}</span>
    </span>
  );
}

/**
 * The address of an instance's page: its name while it lives, then its number. Another instance may get the name later.
 */
export function instanceHref({ id, name, state }: Pick<InstanceLine, "id" | "name" | "state">): string {
  return `/gomotes/${state === "ended" ? id : encodeURIComponent(name)}`;
}

export function Lent({ as }: { as: LentAs }): JSX.Element {
  return as.name === null ? (
    <>lent to somebody</>
  ) : (
    <>
      lent as <Name text={as.name} />
    </>
  );
}

/** How long until `at`, counting down. */
export function Until(props: { at: number }): JSX.Element {
  const text = useNow((now) => (props.at > now ? durationText(Math.ceil((props.at - now) / 1000) * 1000) : "a moment"));
  return <span class="num">{text}</span>;
}

/** The place in the line, in words. */
export function placeText(ahead: number | null): string {
  if (ahead === null) return "in line";
  return ahead === 0 ? "next in line" : `${plural(ahead, "other")} before it`;
}

export function InstanceRows(props: { label: string; instances: readonly InstanceLine[]; who: boolean }): JSX.Element {
  const { who } = props;
  return (
    <Table
      label={props.label}
      class="config instances"
      head={["Instance", ...(who ? ["Who"] : []), "Type", "Machine", "Runs now", "#Since", "#Time left"]}
    >
      {props.instances.map((line) => (
        <tr key={line.id} data-row>
          <th scope="row">
            <a href={instanceHref(line)} class="open">
              <Name text={line.name} />
            </a>{" "}
            {line.state === "up" ? null : <StateMark state={line.state} />}
          </th>
          {who ? (
            <td data-label="Who">
              <Name text={line.email} />
            </td>
          ) : null}
          <td data-label="Type">{visible(line.builderType)}</td>
          <td data-label="Machine">
            {line.machine === null ? (
              <span class="muted">{placeText(line.ahead)}</span>
            ) : (
              <Machine machine={line.machine} />
            )}
          </td>
          <td data-label="Runs now" class="runs">
            {line.running === null ? (
              <span class="muted">nothing</span>
            ) : (
              <>
                <code>{visible(line.running.command)}</code>
                {line.running.more === 0 ? null : ` and ${line.running.more} more`}
              </>
            )}
          </td>
          <td data-label="Since" class="right when">
            <When at={line.upAt ?? line.createdAt} />
          </td>
          <td data-label="Time left" class="right took">
            {line.upAt === null ? <span class="muted">gives up in </span> : null}
            <Until at={line.expiresAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** Commands of one instance, or of several `instances`, in the section `section` of the page `href`. */
export function CommandRows(props: {
  page: CommandPage;
  instances: boolean;
  href: string;
  section: string;
}): JSX.Element {
  const { page, href, section } = props;
  return (
    <>
      <CommandTable lines={page.lines} instances={props.instances} />
      {page.isFirst && page.next === null ? null : (
        <nav class="pages" aria-label="Pages of commands">
          {page.isFirst ? null : <a href={`${href}#${section}`}>What runs, and the newest</a>}
          {page.next === null ? null : (
            <a href={`${href}${href.includes("?") ? "&" : "?"}after=${page.next}#${section}`}>More, older ones</a>
          )}
        </nav>
      )}
    </>
  );
}

function CommandTable(props: { lines: readonly CommandLine[]; instances: boolean }): JSX.Element {
  return (
    <Table
      label="Commands"
      class="config brief"
      head={["Command", ...(props.instances ? ["Instance"] : []), "Who", "How it ended", "#Took", "#When"]}
    >
      {props.lines.map((line) => (
        <tr key={line.id} data-row>
          <td class="runs">
            <a href={commandHref(line)}>
              <code>{visible(line.command)}</code>
            </a>
            {line.dir === "" ? null : <span class="muted"> in {visible(line.dir)}</span>}
          </td>
          {props.instances ? (
            <td data-label="Instance">
              <Name text={line.instance} />
            </td>
          ) : null}
          <td data-label="Who">
            <Name text={line.who} />
          </td>
          <td data-label="Ended" class="ended">
            <CommandState line={line} />
          </td>
          <td data-label="Took" class="right took">
            <Span from={line.startedAt} to={line.endedAt} />
          </td>
          <td data-label="When" class="right when">
            <When at={line.startedAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** The address of a command's page. It has the instance's number: another instance may get the name later. */
function commandHref({ instanceId, id }: Pick<CommandLine, "instanceId" | "id">): string {
  return `/gomotes/${instanceId}/commands/${id}`;
}

/**
 * The state of a command, with the glyphs of a build. A running command has a button that kills it; a second click does
 * no harm.
 */
export function CommandState({ line }: { line: CommandLine }): JSX.Element {
  const { endedAt, state, kill } = line;
  const runs = endedAt === null;
  const look = runs ? STATUS.running : state === "ok" ? STATUS.success : STATUS.failure;
  return (
    <>
      <span class={`mark ${look.css}`}>
        <span class="glyph" aria-hidden="true">
          {look.glyph}
        </span>
        <span class="word">
          {runs ? (kill === null ? "it runs" : "it is being killed") : visible(state ?? "nobody knows how")}
        </span>
      </span>
      {runs ? <Act action={`${commandHref(line)}/kill`} label="Kill" danger /> : null}
    </>
  );
}
