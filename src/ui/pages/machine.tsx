/** `/machines/NAME`: one machine, for its owner: whether it still helps, and why and when it was away. */
import type { JSX } from "preact";
import { durationText } from "../../farm/duration-text.ts";
import { BuildRows } from "../build-rows.tsx";
import { type BuildLine, type MachineMode, type MachineRef, machineHref } from "../data.ts";
import {
  type CommandPage,
  CommandRows,
  type InstanceLine,
  instanceHref,
  Lent,
  type LentAs,
  StateMark,
} from "../gomote.tsx";
import { Act, Builder, Empty, Fact, Mode, Name, purpose, Section, Span, Sure, Table, When } from "../parts.tsx";
import { grouped, plural, visible } from "../text.ts";
import { utc } from "../time.ts";
import {
  type AttemptLine,
  Attempts,
  Changes,
  type MachineChange,
  type SessionRow,
  Sessions,
} from "./machine-history.tsx";
import { Strip } from "./machines.tsx";

export interface MachineData {
  readonly id: number;
  readonly hostType: string;
  readonly name: string;
  readonly mode: MachineMode;
  readonly owners: readonly { readonly name: string; readonly contact: string }[];
  readonly trust: string;
  readonly agent: string;
  readonly version: number;
  readonly agentDigest: string | null;
  readonly platform: string | null;
  readonly address: string;
  readonly firstSeenAt: number;
  readonly lastSeenAt: number;
  /** Why it gets no new work: somebody drained it, or its host type, coordinator or farm. */
  readonly drain: {
    readonly what: "machine" | "host type" | "coordinator" | "farm";
    readonly at: number;
    readonly note: string;
  } | null;
  readonly setAsideAt: number | null;
  readonly setAsideUntil: number | null;
  readonly setAsideReason: string | null;
  readonly probedAt: number | null;
  readonly probeError: string | null;
  /** When its owner was told that it is missing. */
  readonly toldAt: number | null;
  readonly running: BuildLine | null;
  readonly instance: LentAs | null;
  readonly key: {
    readonly id: string;
    readonly madeAt: number;
    readonly expiresAt: number | null;
    readonly revokedAt: number | null;
  } | null;
  readonly changes: readonly MachineChange[];
  readonly sessions: readonly SessionRow[];
  readonly attempts: readonly AttemptLine[];
  readonly compare: {
    readonly builds: number;
    readonly infra: number;
    readonly medianMs: number | null;
    /** Its duration as a multiple of that of similar machines, builder by builder. Null: too few builds in common. */
    readonly ratio: number | null;
  };
  /** The leases that it takes next if nothing else happens. Empty while it is away. */
  readonly next: readonly NextLease[];
  /** The last 30 days, one character for each, oldest first, as in MachineLine.day. */
  readonly month: string;
  /** The host types of other machines with this name. */
  readonly namesakes: readonly string[];
  /** What was lent, for its owner and for operators. Null: the visitor is neither, or the machine was never lent. */
  readonly lent: LentData | null;
}

/** Who borrowed it, the newest first, and what they ran. */
export interface LentData {
  readonly instances: readonly InstanceLine[];
  readonly commands: CommandPage;
}

/** A lease that the machine takes soon. */
export interface NextLease {
  readonly lease: number;
  readonly kind: string;
  readonly class: string;
  readonly starving: boolean;
  readonly build: BuildLine | null;
}

export function MachinePage(props: { data: MachineData; operator: boolean }): JSX.Element {
  const { data: m } = props;
  return (
    <>
      <h1>
        <Name text={m.name} /> <Mode mode={m.mode} />
      </h1>
      <p class="lead">
        <State machine={m} />
      </p>
      {m.setAsideAt === null ? null : <SetAside machine={m} at={m.setAsideAt} />}
      {m.running ? <BuildRows label="What it runs" builds={[m.running]} kind="running" machine={false} /> : null}
      <dl class="facts">
        <Fact name="Host type">
          <a href={`/builders#${encodeURIComponent(m.hostType)}`}>{visible(m.hostType)}</a>, {m.trust}
          {m.trust === "community" ? <span class="muted"> (runs submitted code only)</span> : null}
        </Fact>
        <Fact name="Lent by">
          {m.owners.length === 0 ? <span class="muted">nobody is named in the configuration</span> : null}
          {m.owners.map((owner) => (
            <div key={owner.name}>
              <bdi>{visible(owner.name)}</bdi> <span class="muted">{visible(owner.contact)}</span>
            </div>
          ))}
        </Fact>
        <Fact name="Platform">
          {m.platform === null ? <span class="muted">not reported</span> : visible(m.platform)}
        </Fact>
        <Fact name="Agent">
          {m.agent === "barnraiser" ? "our buildlet" : "the original buildlet"}, version {m.version}
          {m.agentDigest === null ? null : <code title={m.agentDigest}> {m.agentDigest.slice(0, 12)}</code>}
        </Fact>
        <Fact name="Address">{visible(m.address)}</Fact>
        <Fact name="Key">
          <Key data={m.key} operator={props.operator} />
        </Fact>
        {m.next.length > 0 ? (
          <Fact name="Takes next">
            {m.next.map((lease) => (
              <div key={lease.lease}>
                {lease.build === null ? (
                  purpose(lease.kind)
                ) : (
                  <>
                    <a href={`/b/${lease.build.id}`} class="num">
                      #{lease.build.id}
                    </a>{" "}
                    <Builder name={lease.build.builder} repo={lease.build.repo} />
                  </>
                )}{" "}
                <span class="muted">
                  {lease.starving ? "waited too long" : lease.class === lease.kind ? "" : lease.class}
                </span>
              </div>
            ))}
          </Fact>
        ) : null}
        <Fact name="First seen">
          <When at={m.firstSeenAt} />
        </Fact>
        <Fact name="Last 30 days">
          <Strip spans={m.month} of="days" />
        </Fact>
        <Fact name="Compared">
          <Compared data={m} />
        </Fact>
        {m.namesakes.length > 0 ? (
          <Fact name="Same name">
            {m.namesakes.map((type) => (
              <a key={type} href={`/machines/${encodeURIComponent(m.name)}?type=${encodeURIComponent(type)}`}>
                {visible(type)}{" "}
              </a>
            ))}
          </Fact>
        ) : null}
      </dl>
      {props.operator ? <Operate machine={m} /> : null}
      {m.lent === null || m.instance === null ? null : <Borrowers data={m.lent} machine={m} />}
      <Section id="builds" title="Builds">
        {m.attempts.length === 0 ? <Empty>It has run no build yet.</Empty> : <Attempts attempts={m.attempts} />}
      </Section>
      {m.lent === null || m.instance !== null ? null : <Borrowers data={m.lent} machine={m} />}
      <Section id="sessions" title="Connections">
        <Sessions sessions={m.sessions} />
      </Section>
      <Section id="changes" title="Changes">
        {m.changes.length === 0 ? <Empty>It has always reported the same.</Empty> : <Changes changes={m.changes} />}
      </Section>
    </>
  );
}

function Borrowers(props: { data: LentData; machine: MachineRef }): JSX.Element {
  const { instances, commands } = props.data;
  return (
    <>
      <Section id="lent" title="Lent to people">
        {instances.length === 0 ? (
          <Empty>Nobody has borrowed it yet.</Empty>
        ) : (
          <Table
            label="Lent to people"
            class="config instances"
            head={["Instance", "Who", "#From", "#For", "Why it ended"]}
          >
            {instances.map((line) => (
              <tr key={line.id} data-row>
                <th scope="row">
                  <a href={instanceHref(line)} class="open">
                    <Name text={line.name} />
                  </a>{" "}
                  {line.state === "ended" ? null : <StateMark state={line.state} />}
                </th>
                <td data-label="Who">
                  <Name text={line.email} />
                </td>
                <td data-label="From" class="right when">
                  <When at={line.upAt ?? line.createdAt} />
                </td>
                <td data-label="For" class="right took">
                  <Span from={line.upAt ?? line.createdAt} to={line.endedAt} />
                </td>
                <td data-label={line.state === "ended" ? "Ended" : undefined}>
                  {line.state === "ended" ? (
                    visible(line.endReason ?? "")
                  ) : (
                    <Sure
                      word="Take it back…"
                      sentence="Whoever has it is told that it ended, by whom and why; what is on it is deleted."
                    >
                      <Act action={`${instanceHref(line)}/end`} label="Take it back" note="why" danger />
                    </Sure>
                  )}
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Section>
      {commands.isFirst && commands.lines.length === 0 ? null : (
        <Section id="lent-commands" title="What people ran on it">
          <CommandRows page={commands} instances href={machineHref(props.machine)} section="lent-commands" />
        </Section>
      )}
    </>
  );
}

const DRAINED = {
  machine: "Drained",
  "host type": "Drained with all machines of its host type",
  coordinator: "Drained with the coordinator that it is connected to",
  farm: "Drained with the whole farm",
} as const;

function State(props: { machine: MachineData }): JSX.Element {
  const { machine: m } = props;
  const [open] = m.sessions.filter((session) => session.closedAt === null);
  if (m.drain)
    return (
      <>
        {DRAINED[m.drain.what]} <When at={m.drain.at} />
        {m.drain.note === "" ? "" : `: ${visible(m.drain.note)}`}.{" "}
        {m.mode === "busy" ? "It ends what it runs and takes nothing new." : "It takes nothing new."}
      </>
    );
  if (open)
    return (
      <>
        Connected for <Span from={open.openedAt} /> from {visible(open.address)}.
        {m.instance === null ? null : <LentNow machine={m} as={m.instance} />}
      </>
    );
  const last = m.sessions[0];
  return (
    <>
      Away for <Span from={last?.closedAt ?? m.lastSeenAt} />
      {last?.reason ? `: ${visible(last.reason)}` : ""}.
      {m.toldAt === null ? null : (
        <>
          {" "}
          Its owner was told <When at={m.toldAt} />.
        </>
      )}
    </>
  );
}

/** Who has it now, for visitors who may know that. */
function LentNow(props: { machine: MachineData; as: LentAs }): JSX.Element {
  const line = props.machine.lent?.instances.find(({ name, state }) => name === props.as.name && state !== "ended");
  return line ? (
    <>
      {" "}
      It is lent as{" "}
      <a href={instanceHref(line)}>
        <Name text={line.name} />
      </a>{" "}
      to <Name text={line.email} />, for <Span from={line.upAt ?? line.createdAt} /> so far.
    </>
  ) : (
    <>
      {" "}
      It is <Lent as={props.as} />.
    </>
  );
}

/** Why it was set aside, until when it gets nothing, and what the farm does about it. */
function SetAside(props: { machine: MachineData; at: number }): JSX.Element {
  const { mode, setAsideUntil, setAsideReason, probedAt, probeError } = props.machine;
  return (
    <p class="lead fl">
      Set aside <When at={props.at} />: {visible(setAsideReason ?? "")}. It{" "}
      {mode === "busy" ? "ends what it runs, and gets nothing new" : "gets no work"} until the farm has tried it and
      found it well{setAsideUntil === null ? "" : `, not before ${utc(setAsideUntil)}`}.
      {probeError === null || probedAt === null ? null : (
        <>
          {" "}
          The last trial, <When at={probedAt} />, failed: {visible(probeError)}.
        </>
      )}
    </p>
  );
}

function Key(props: { data: MachineData["key"]; operator: boolean }): JSX.Element {
  const key = props.data;
  if (key === null) return <span>shared key of its host type</span>;
  return (
    <>
      <code>{key.id}</code>, its own, made {utc(key.madeAt).slice(0, 10)}
      {key.expiresAt === null ? "" : `, expires ${utc(key.expiresAt).slice(0, 10)}`}
      {key.revokedAt === null ? "" : `, revoked ${utc(key.revokedAt).slice(0, 10)}`}
      {props.operator && key.revokedAt === null ? (
        <Act action={`/keys/${encodeURIComponent(key.id)}/revoke`} label="Revoke" danger />
      ) : null}
    </>
  );
}

function Compared(props: { data: MachineData }): JSX.Element {
  const { builds, infra, medianMs, ratio } = props.data.compare;
  if (builds === 0) return <span class="muted">nothing to compare yet</span>;
  return (
    <>
      {plural(builds, "build")}, {grouped(infra)} ended by infrastructure
      {medianMs === null ? "" : `, median ${durationText(medianMs)}`}
      {ratio === null
        ? "; not enough builds to compare"
        : ratio > 1.05
          ? `, ${ratio.toFixed(1)} times its siblings'`
          : ratio < 0.95
            ? `, ${(1 / ratio).toFixed(1)} times faster than its siblings`
            : ", like its siblings"}
    </>
  );
}

function Operate(props: { machine: MachineData }): JSX.Element {
  const { machine: m } = props;
  return (
    <div class="operate">
      {m.drain?.what !== "machine" ? (
        <Act action={`/machines/${m.id}/drain`} label="Drain" note="why (shown to everybody)" />
      ) : (
        <Act action={`/machines/${m.id}/resume`} label="Resume" />
      )}
      {m.setAsideAt === null ? null : <Act action={`/machines/${m.id}/readmit`} label="Give it work again" />}
    </div>
  );
}
