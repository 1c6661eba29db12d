/** `/queues`: per host type who could serve, who waits, in the order in which they will be served, and why in that order. */
import type { JSX } from "preact";
import type { BuildLine } from "../data.ts";
import { Builder, Commit, Empty, Mark, Section, Span, Table } from "../parts.tsx";
import { grouped, plural, visible } from "../text.ts";
import { about } from "../time.ts";

export interface QueueItem {
  readonly lease: number;
  readonly class: string;
  readonly wantedAt: number;
  readonly starving: boolean;
  readonly build: BuildLine | null;
  readonly aboutMs: number | null;
}

export interface QueueData {
  readonly hostType: string;
  readonly machines: number;
  readonly busy: number;
  readonly known: number;
  readonly drained: string | null;
  readonly waiting: number;
  readonly items: readonly QueueItem[];
}

export function QueuesPage(props: { data: { readonly queues: readonly QueueData[] } }): JSX.Element {
  const { queues } = props.data;
  return (
    <>
      <h1>Queues</h1>
      <p class="lead">
        A lease that has waited too long goes first; then the class (gomote, try, post-submit, background); then people
        by age and commits newest first.
      </p>
      {queues.length === 0 ? <Empty>No host type is configured, so nothing can wait.</Empty> : null}
      {queues.map((queue) => (
        <Section key={queue.hostType} id={queue.hostType} title={visible(queue.hostType)} aside={usage(queue)}>
          {queue.items.length === 0 ? <Empty>Nothing waits.</Empty> : <Items queue={queue} />}
        </Section>
      ))}
    </>
  );
}

function usage(queue: QueueData): string {
  const parts = [`${queue.busy}/${queue.machines} in use`, `${grouped(queue.waiting)} waiting`];
  if (queue.machines === 0)
    parts.push(
      queue.known === 0 ? "no machine ever connected" : `${plural(queue.known, "machine")} known, none connected`,
    );
  if (queue.drained !== null) parts.push(queue.drained === "" ? "drained" : `drained: ${visible(queue.drained)}`);
  return parts.join(" · ");
}

function Items(props: { queue: QueueData }): JSX.Element {
  const { queue } = props;
  return (
    <>
      <Table
        label={`Queue of ${visible(queue.hostType)}`}
        class="builds"
        head={["#Place", "Build", "Builder", "Commit", "Class", "#Waits", "#Starts in"]}
      >
        {queue.items.map((item, place) => (
          <tr key={item.lease} data-row>
            <td class="right num">{place + 1}</td>
            <td class="tight">
              {item.build === null ? (
                "lease"
              ) : (
                <a href={`/b/${item.build.id}`} class="open">
                  <Mark status="waiting" /> <span class="num">#{item.build.id}</span>
                </a>
              )}
            </td>
            <td>{item.build === null ? null : <Builder name={item.build.builder} repo={item.build.repo} />}</td>
            <td class="wide">
              {item.build === null ? null : (
                <Commit repo={item.build.repo} hash={item.build.hash} subject={item.build.subject} />
              )}
            </td>
            <td>
              {item.class}
              {item.starving ? <span class="fl"> waited too long, goes first</span> : null}
            </td>
            <td class="right took">
              <Span from={item.wantedAt} />
            </td>
            <td class="right">{item.aboutMs === null ? <span class="muted">cannot say</span> : about(item.aboutMs)}</td>
          </tr>
        ))}
      </Table>
      {queue.waiting > queue.items.length ? (
        <p class="muted">and {grouped(queue.waiting - queue.items.length)} more</p>
      ) : null}
    </>
  );
}
