/** `/gomotes`: the machines that I have borrowed, and the way to one more. */
import type { JSX } from "preact";
import { durationText } from "../../farm/duration-text.ts";
import { type InstanceLine, InstanceRows } from "../gomote.tsx";
import { Empty, Section } from "../parts.tsx";
import { plural, visible } from "../text.ts";

/** What may be borrowed. */
export interface TypeLine {
  readonly name: string;
  readonly hostType: string;
  /** Connected and taking work; of them, those that do nothing. */
  readonly machines: number;
  readonly idle: number;
}

export interface GomotesData {
  /** Null: nobody is logged in. */
  readonly who: string | null;
  readonly mine: readonly InstanceLine[];
  /** Of everybody else, for operators; null: for nobody else. */
  readonly others: readonly InstanceLine[] | null;
  readonly types: readonly TypeLine[];
  readonly idleMs: number;
  readonly longestMs: number;
}

export function GomotesPage(props: { data: GomotesData }): JSX.Element {
  const { who, mine, others, types, idleMs, longestMs } = props.data;
  return (
    <>
      <h1>Gomotes</h1>
      <p class="lead">
        Machines of the farm that people have to themselves for a while: back after {durationText(idleMs)} without use,
        and after {durationText(longestMs)} at the latest.
      </p>
      {who === null ? (
        <Empty>
          <a href="/login?back=/gomotes">Log in</a> to see yours and to borrow one.
        </Empty>
      ) : (
        <Section id="mine" title="Mine">
          {mine.length === 0 ? (
            <Empty>You have no instance.</Empty>
          ) : (
            <InstanceRows label="My instances" instances={mine} who={false} />
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
                    <option key={type.name} value={type.name}>
                      {visible(type.name)} ({availability(type)})
                    </option>
                  ))}
                </select>
              </label>
              <button type="submit">Borrow one</button>
            </form>
          )}
        </Section>
      )}
      {others === null ? null : (
        <Section id="others" title="Everybody else's" aside={plural(others.length, "instance")}>
          {others.length === 0 ? (
            <Empty>Nobody else has an instance.</Empty>
          ) : (
            <InstanceRows label="Everybody else's instances" instances={others} who />
          )}
        </Section>
      )}
    </>
  );
}

function availability({ machines, idle }: TypeLine): string {
  if (machines === 0) return "no machine is connected";
  return idle === 0 ? `all ${plural(machines, "machine")} busy` : `${idle} of ${machines} free`;
}
