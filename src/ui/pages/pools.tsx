/**
 * The reverse pool, in the words and the form that owners know from upstream: `type: inUse/total (N missing)`, and one
 * item per machine, `name (ip:port) version V, TYPE: connected DUR, idle|working for DUR`.
 */
import type { JSX } from "preact";
import { type MachineMode, machineHref } from "../data.ts";
import { Empty, Section, Span } from "../parts.tsx";
import { grouped, visible } from "../text.ts";
import { utc } from "../time.ts";

export interface PoolLine {
  readonly hostType: string;
  readonly busy: number;
  readonly total: number;
  /** How many machines should be connected but are not, counted as in notices. */
  readonly absent: number;
  readonly trust: "team" | "community";
  readonly drained: boolean;
  readonly configured: boolean;
  /** The machines that should be connected but are not, as far as they are known. */
  readonly missing: readonly MissingLine[];
}

export interface MissingLine {
  readonly name: string;
  /** When it was last seen. */
  readonly since: number;
  /** When its owner was told. */
  readonly toldAt: number | null;
}

export interface SessionLine {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly version: number;
  readonly hostType: string;
  readonly openedAt: number;
  readonly mode: MachineMode;
  readonly build: number | null;
  /** Since when it has worked, or has been idle. */
  readonly since: number;
}

export interface PoolData {
  readonly types: readonly PoolLine[];
  readonly sessions: readonly SessionLine[];
  readonly connected: number;
}

/** What a machine without work does. The reason stands beside the time for which it has had none. */
const DOING: Readonly<Record<Exclude<MachineMode, "busy">, string>> = {
  idle: "idle",
  away: "idle",
  drained: "drained, idle",
  "set aside": "set aside, idle",
};

export function Pools(props: { pools: PoolData }): JSX.Element {
  const { types, sessions, connected } = props.pools;
  return (
    <div id="pools">
      <Section title="Reverse pool summary">
        {types.length === 0 ? (
          <Empty>No host type is configured.</Empty>
        ) : (
          <ul class="pool">
            {types.map((type) => (
              <li key={type.hostType}>
                <a href={`/builders#${encodeURIComponent(type.hostType)}`}>{visible(type.hostType)}</a>
                {`: ${type.busy}/${type.total}`}
                {type.absent > 0 ? (
                  <span class="fl">
                    {` (${type.absent} missing`}
                    <Missing machines={type.missing} hostType={type.hostType} />)
                  </span>
                ) : null}
                {type.drained ? <span class="muted"> drained</span> : null}
                {type.configured ? null : <span class="muted"> not in the configuration</span>}
              </li>
            ))}
          </ul>
        )}
      </Section>
      <Section
        title="Reverse pool machine detail"
        aside={
          connected > sessions.length ? <a href="/machines">{`${sessions.length} of ${grouped(connected)}`}</a> : null
        }
      >
        {sessions.length === 0 ? (
          <Empty>No machine is connected.</Empty>
        ) : (
          <ul class="pool">
            {sessions.map((session) => (
              <li key={session.id} data-row>
                <a href={machineHref(session)}>
                  <bdi>{visible(session.name)}</bdi>
                </a>
                {` (${visible(session.address)}) version ${session.version}, ${visible(session.hostType)}: connected `}
                <Span from={session.openedAt} />
                {`, ${session.mode === "busy" ? "working" : DOING[session.mode]} for `}
                <Span from={session.since} />
                {session.build === null ? null : (
                  <>
                    {" "}
                    <a href={`/b/${session.build}`}>#{session.build}</a>
                  </>
                )}
              </li>
            ))}
          </ul>
        )}
      </Section>
    </div>
  );
}

/** The missing machines: `: pinecone, silent since 02:10, owner told 02:25`. */
function Missing(props: { machines: readonly MissingLine[]; hostType: string }): JSX.Element | null {
  if (props.machines.length === 0) return null;
  return (
    <>
      {props.machines.map(({ name, since, toldAt }, i) => (
        <span key={name}>
          {i === 0 ? ": " : "; "}
          <a href={machineHref({ name, hostType: props.hostType })}>
            <bdi>{visible(name)}</bdi>
          </a>
          {", silent since "}
          <time datetime={new Date(since).toISOString()}>{utc(since)}</time>
          {toldAt === null ? null : (
            <>
              {", owner told "}
              <time datetime={new Date(toldAt).toISOString()}>{utc(toldAt)}</time>
            </>
          )}
        </span>
      ))}
    </>
  );
}
