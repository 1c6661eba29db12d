/** `/machines`: every machine that has ever dialled in, those that are wanted now first. */
import type { JSX } from "preact";
import type { MachineMode } from "../data.ts";
import { Lent, type LentAs } from "../gomote.tsx";
import { Lend } from "../lend.tsx";
import { Empty, Machine, Mode, Name, Pages, Table, When } from "../parts.tsx";
import { plural, visible } from "../text.ts";

export interface MachineLine {
  readonly id: number;
  readonly hostType: string;
  readonly name: string;
  readonly owner: string | null;
  readonly trust: string;
  readonly mode: MachineMode;
  readonly build: number | null;
  readonly builder: string | null;
  readonly instance: LentAs | null;
  readonly lastSeenAt: number;
  readonly note: string | null;
  /**
   * The last 24 hours, one character for each, oldest first: `b` busy, `i` connected, `a` away, `n` before it first
   * came.
   */
  readonly day: string;
}

export interface MachinesData {
  readonly machines: readonly MachineLine[];
  readonly total: number;
  readonly page: number;
  readonly pages: number;
  readonly filter: string;
}

export function MachinesPage(props: { data: MachinesData; dial: string; hostType: string | null }): JSX.Element {
  const { machines, total, filter, page, pages } = props.data;
  return (
    <>
      <h1>
        Machines <span class="aside">{plural(total, "machine")}</span>
      </h1>
      <form class="filter" action="/machines">
        <input
          name="q"
          value={filter}
          placeholder="name, host type or owner"
          aria-label="Filter by name, host type or owner"
        />
        <button type="submit">Filter</button>
      </form>
      {machines.length === 0 ? (
        filter === "" ? (
          <>
            <Empty>No machine has dialled in yet.</Empty>
            <Lend dial={props.dial} hostType={props.hostType} />
          </>
        ) : (
          <Empty>No machine matches “{visible(filter)}”.</Empty>
        )
      ) : (
        <Table
          label="Machines"
          class="builds machines"
          cols={["state", "builder", "host", "author", "trust", "free", "strip", "seen"]}
          head={["State", "Machine", "Host type", "Owner", "Trust", "Runs", "24 h", "#Last seen"]}
        >
          {machines.map((machine) => (
            <tr key={machine.id} data-row>
              <td class="tight">
                <Mode mode={machine.mode} />
              </td>
              <th scope="row" class="open">
                <Machine machine={machine} />
              </th>
              <td>
                <Name text={machine.hostType} />
              </td>
              <td>{machine.owner === null ? null : <Name text={machine.owner} />}</td>
              <td>{machine.trust}</td>
              <td class="runs">
                <Doing machine={machine} />
              </td>
              <td>
                <Strip spans={machine.day} of="hours" />
              </td>
              <td class="right when">{machine.mode === "away" ? <When at={machine.lastSeenAt} /> : "now"}</td>
            </tr>
          ))}
        </Table>
      )}
      <Pages of="machines" page={page} pages={pages} href={(other) => pageHref(filter, other)} />
    </>
  );
}

function Doing(props: { machine: MachineLine }): JSX.Element {
  const { build, builder, instance, note } = props.machine;
  if (build !== null)
    return (
      <a href={`/b/${build}`}>
        #{build} {visible(builder ?? "")}
      </a>
    );
  if (instance !== null) return <Lent as={instance} />;
  return <span class="muted">{note === null ? "" : visible(note)}</span>;
}

function pageHref(filter: string, page: number): string {
  return `/machines?${filter === "" ? "" : `q=${encodeURIComponent(filter)}&`}page=${page}`;
}

const WORDS: Readonly<Record<string, string>> = { b: "busy", i: "idle", a: "away", n: "not known yet" };

/** How each character is drawn: its height from the bottom of the strip, and its class. */
const MARKS: Readonly<Record<string, { readonly height: number; readonly css: string }>> = {
  b: { height: 12, css: "ru" },
  i: { height: 6, css: "ok" },
  a: { height: 2, css: "wa" },
  n: { height: 1, css: "none" },
};

/** A strip of time, one mark per character. */
export function Strip(props: { spans: string; of: "hours" | "days" }): JSX.Element {
  const { spans, of } = props;
  const parts = Object.entries(WORDS).flatMap(([letter, word]) => {
    const count = spans.split(letter).length - 1;
    return count === 0 ? [] : [`${word} in ${count}`];
  });
  const title = `Of the last ${spans.length} ${of}: ${parts.join(", ")}`;
  return (
    <svg
      class="strip"
      viewBox={`0 0 ${spans.length * 5} 12`}
      width={spans.length * 5}
      height="12"
      role="img"
      aria-label={title}
    >
      <title>{title}</title>
      {[...spans].map((letter, x) => {
        const { height, css } = MARKS[letter] ?? { height: 0, css: "none" };
        return <rect key={x} x={x * 5} y={12 - height} width="4" height={height} class={css} />;
      })}
    </svg>
  );
}
