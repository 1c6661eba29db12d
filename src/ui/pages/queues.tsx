/**
 * `/queues`: for each host type, the machines that could serve, and the waiting leases, in the order in which they will
 * be served, with the reasons.
 */
import type { JSX } from "preact";
import { durationText } from "../../farm/duration-text.ts";
import type { Ahead, AsideLine, BuildLine, Estimate } from "../data.ts";
import { type LentAs, Until } from "../gomote.tsx";
import {
  Builder,
  Commit,
  Empty,
  Machine,
  Mark,
  Name,
  nobodyServes,
  purpose,
  Section,
  Span,
  startsIn,
  Table,
} from "../parts.tsx";
import { grouped, visible } from "../text.ts";

export interface QueueItem {
  readonly lease: number;
  readonly kind: string;
  readonly class: string;
  /** Whether it is a try of a release branch, which goes before other tries. */
  readonly release: boolean;
  /**
   * The repository or person that takes turns with the others. It is "" for a person whose name the visitor may not
   * know.
   */
  readonly flow: string;
  readonly repo: string;
  readonly wantedAt: number;
  readonly starving: boolean;
  readonly ahead: Ahead;
  readonly build: BuildLine | null;
  /** For a helper: the build for whose tests it is wanted. */
  readonly helps: BuildLine | null;
  /** The instance that a person waits for. */
  readonly instance: (LentAs & { readonly builderType: string }) | null;
  readonly estimate: Estimate | null;
  /** Why there is no estimate. */
  readonly unknown: string | null;
}

export interface QueueData {
  readonly hostType: string;
  readonly configured: boolean;
  readonly machines: number;
  readonly busy: number;
  readonly known: number;
  readonly aside: readonly AsideLine[];
  readonly resting: number;
  readonly drained: string | null;
  readonly waiting: number;
  readonly items: readonly QueueItem[];
  readonly lent: readonly LentLine[];
}

/** A machine that a person has borrowed. */
export interface LentLine {
  readonly instance: LentAs;
  readonly builderType: string;
  readonly machine: string;
  readonly upAt: number;
  readonly expiresAt: number;
  /** Whether its connection is lost and the farm waits for it. */
  readonly parked: boolean;
}

export function QueuesPage(props: { data: { readonly queues: readonly QueueData[] } }): JSX.Element {
  const { queues } = props.data;
  return (
    <>
      <h1>Queues</h1>
      {queues.length === 0 ? <Empty>No host type is configured, so nothing can wait.</Empty> : null}
      {queues.map((queue) => (
        <Section key={queue.hostType} id={queue.hostType} title={visible(queue.hostType)} aside={usage(queue)}>
          {queue.items.length === 0 ? <Empty>Nothing waits.</Empty> : <Items queue={queue} />}
          {queue.lent.length === 0 ? null : <Lent queue={queue} />}
        </Section>
      ))}
      <details id="rules" class="rules">
        <summary>Who goes first, and how “starts in” is reckoned</summary>
        <p>
          What has waited too long gets every second machine, the oldest first. All else goes by class: gomote, try,
          post-submit, background; among tries release branches first; in each class whole builds before helpers. Within
          that, repositories (for gomotes and tries, people) take turns: next is who holds the fewest machines. Of one
          repository the newest commit goes first, of one person what was asked for first.
        </p>
        <p>
          “Starts in” plays the queue forward a hundred times, with durations drawn from each builder’s last 50 builds:
          three times in four it begins within the range, if nothing comes that goes before it.
        </p>
      </details>
    </>
  );
}

function usage(queue: QueueData): string {
  const parts = [`${queue.busy}/${queue.machines} in use`, `${grouped(queue.waiting)} waiting`];
  if (queue.machines === 0) parts.push(nobodyServes(queue, "no machine"));
  if (!queue.configured) parts.push("not in the configuration any more");
  if (queue.drained !== null) parts.push(queue.drained === "" ? "drained" : `drained: ${visible(queue.drained)}`);
  return parts.join(" · ");
}

/** What goes before, in short: `1 late, 5 of app, 3 try`. The build's own page says it in full. */
function before({ ahead, repo }: QueueItem): string {
  const parts = [
    ...(ahead.starving > 0 ? [`${grouped(ahead.starving)} late`] : []),
    ...(ahead.same > 0 ? [`${grouped(ahead.same)} of ${visible(repo === "" ? "the same" : repo)}`] : []),
    ...ahead.others.map((other) => `${grouped(other.count)} ${other.class}`),
  ];
  return parts.join(", ");
}

function Lent(props: { queue: QueueData }): JSX.Element {
  const { hostType, lent } = props.queue;
  return (
    <Table
      label={`Machines of ${visible(hostType)} that people have`}
      class="builds lent"
      cols={["reason", "host", "machine", "took", "starts"]}
      head={["Lent as", "Type", "Machine", "#For", "#Unless used, back in"]}
    >
      {lent.map((line) => (
        <tr key={line.machine} data-row>
          <th scope="row">
            <OfSomebody as={line.instance} />
          </th>
          <td>{visible(line.builderType)}</td>
          <td>
            <Machine machine={{ name: line.machine, hostType }} />
            {line.parked ? <span class="fl"> away, and waited for</span> : null}
          </td>
          <td class="right took">
            <Span from={line.upAt} />
          </td>
          <td class="right">
            <Until at={line.expiresAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function OfBuild({ build, kind }: { build: BuildLine; kind: string }): JSX.Element {
  return (
    <>
      <td class="tight">
        {kind === "helper" ? `${purpose(kind)} ` : null}
        <a href={`/b/${build.id}`} class="open">
          {kind === "helper" ? null : (
            <>
              <Mark status="waiting" />{" "}
            </>
          )}
          <span class="num">#{build.id}</span>
        </a>
      </td>
      <td>
        <Builder name={build.builder} repo={build.repo} />
      </td>
      <td class="wide">
        <Commit repo={build.repo} hash={build.hash} subject={build.subject} />
      </td>
    </>
  );
}

/** Three cells that say what waits. */
function About({ item }: { item: QueueItem }): JSX.Element {
  const build = item.build ?? item.helps;
  if (build !== null) return <OfBuild build={build} kind={item.kind} />;
  return (
    <td colSpan={3}>
      <Mark status="waiting" />{" "}
      {item.instance === null ? (
        <Name text={purpose(item.kind)} />
      ) : (
        <>
          <OfSomebody as={item.instance} /> <span class="muted">a {visible(item.instance.builderType)}</span>
        </>
      )}
    </td>
  );
}

function OfSomebody({ as }: { as: LentAs }): JSX.Element {
  return as.name === null ? <span class="muted">for somebody</span> : <Name text={as.name} />;
}

function Items(props: { queue: QueueData }): JSX.Element {
  const { queue } = props;
  const served = queue.machines > 0 && queue.drained === null; // else the heading says why
  return (
    <>
      <Table
        label={`Queue of ${visible(queue.hostType)}`}
        class="builds"
        cols={["place", "build", "builder", "commit", "class", "after", "took", "starts"]}
        head={["#Place", "Build", "Builder", "Commit", "Class", "After", "#Waits", "#Starts in"]}
      >
        {queue.items.map((item, place) => (
          <tr key={item.lease} data-row>
            <td class="right num">{place + 1}</td>
            <About item={item} />
            <td>
              <span class="whole">{item.class}</span>
              {item.kind === "helper" ? " helper" : null}
              {item.release ? ", release branch" : null}
              {item.instance !== null || item.flow === item.repo || item.flow === "" ? null : (
                <>
                  {" "}
                  <span class="whole">
                    of <Name text={item.flow} />
                  </span>
                </>
              )}
              {item.starving ? <span class="fl"> waited too long, goes before its turn</span> : null}
            </td>
            <td class="muted">{before(item)}</td>
            <td class="right took">
              <Span from={item.wantedAt} />
            </td>
            <td class="right">
              {item.estimate === null ? (
                <span class="muted">
                  cannot say{served && item.unknown !== null ? `: ${visible(item.unknown)}` : ""}
                </span>
              ) : (
                <span title={`half of the times within ${durationText(item.estimate.aboutMs)}`}>
                  {startsIn(item.estimate)}
                </span>
              )}
            </td>
          </tr>
        ))}
      </Table>
      {queue.waiting > queue.items.length ? (
        <p class="muted">and {grouped(queue.waiting - queue.items.length)} more</p>
      ) : null}
    </>
  );
}
