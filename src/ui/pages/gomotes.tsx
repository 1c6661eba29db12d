/** `/gomotes`: the machines that the visitor has borrowed, and the way to borrow another. */
import type { JSX } from "preact";
import { type InstanceLine, InstanceRows } from "../gomote.tsx";
import { Empty, Section } from "../parts.tsx";
import { plural, visible } from "../text.ts";
import { limit } from "../time.ts";

/** A type of machine that may be borrowed. */
export interface TypeLine {
  readonly name: string;
  readonly hostType: string;
  /** How many machines are connected and take work; `idle` of them do nothing. */
  readonly machines: number;
  readonly idle: number;
}

export interface GomotesData {
  /** The visitor. With the operator token nobody is a borrower. Null: nobody is logged in. */
  readonly who: { readonly kind: "person" | "operator" } | null;
  readonly mine: readonly InstanceLine[];
  /** The instances of others: operators see all, owners those on their machines. Null: the visitor is neither. */
  readonly others: { readonly of: "everybody" | "my machines"; readonly lines: readonly InstanceLine[] } | null;
  readonly types: readonly TypeLine[];
  readonly idleMs: number;
  readonly longestMs: number;
}

export function GomotesPage(props: { data: GomotesData }): JSX.Element {
  const { who, others, idleMs, longestMs } = props.data;
  return (
    <>
      <h1>Gomotes</h1>
      <p class="lead">
        Machines of the farm that people have to themselves for a while: back after {limit(idleMs)} without use, and
        after {limit(longestMs)} at the latest.
      </p>
      {who === null ? (
        <Empty>
          <a href="/login?back=/gomotes">Log in</a> to see yours and to borrow one.
        </Empty>
      ) : (
        <Section id="mine" title="Mine">
          {who.kind === "person" ? (
            <Mine data={props.data} />
          ) : (
            <Empty>The operator token is nobody's own: to borrow a machine, log in as a user.</Empty>
          )}
        </Section>
      )}
      {others === null ? null : <Others of={others.of} lines={others.lines} />}
    </>
  );
}

function Mine({ data }: { data: GomotesData }): JSX.Element {
  const { mine, types } = data;
  const free = types.find(({ idle }) => idle > 0) ?? types[0];
  return (
    <>
      {mine.length > 0 ? (
        <InstanceRows label="My instances" instances={mine} who={false} />
      ) : (
        <p class="empty">
          You have no instance.{" "}
          {free === undefined ? null : (
            <>
              Borrow one here, or by <code>gomote create {visible(free.name)}</code> in a terminal that{" "}
              <a href="/me#command-line">knows the farm</a>.
            </>
          )}
        </p>
      )}
      {types.length === 0 ? (
        <p class="muted">
          No machine is lent to you. Which are lent to whom, the farm's configuration says; ask an operator.
        </p>
      ) : (
        <form method="post" action="/gomotes" class="act borrow">
          <label>
            Type{" "}
            <select name="type" required>
              {types.map((type) => (
                <option key={type.name} value={type.name} selected={type === free}>
                  {visible(type.name)} ({availability(type)})
                </option>
              ))}
            </select>
          </label>
          <button type="submit">Borrow one</button>
        </form>
      )}
    </>
  );
}

function Others(props: NonNullable<GomotesData["others"]>): JSX.Element {
  const { of, lines } = props;
  const everybody = of === "everybody";
  const title = everybody ? "Everybody else's" : "On machines of yours";
  return (
    <Section id="others" title={title} aside={lines.length === 0 ? null : plural(lines.length, "instance")}>
      {lines.length === 0 ? (
        <Empty>{everybody ? "Nobody else has an instance." : "Nobody has a machine of yours just now."}</Empty>
      ) : (
        <InstanceRows label={title} instances={lines} who />
      )}
    </Section>
  );
}

function availability({ machines, idle }: TypeLine): string {
  if (machines === 0) return "no machine is connected";
  return idle === 0 ? `all ${plural(machines, "machine")} busy` : `${idle} of ${machines} free`;
}
