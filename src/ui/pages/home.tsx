/**
 * `/`: what the farm is doing now. First numbers; then what runs, waits and has ended; then the machines and their
 * health.
 */
import type { JSX } from "preact";
import { durationText } from "../../farm/duration-text.ts";
import { BuildRows, type WaitingGroup, WaitingRows } from "../build-rows.tsx";
import { type BuildLine, type Check, repoHref } from "../data.ts";
import { Lend } from "../lend.tsx";
import { Builder, Columns, Commit, Empty, Mark, Name, Section, Table, When } from "../parts.tsx";
import { grouped, plural } from "../text.ts";
import { CheckList } from "./health.tsx";
import { type PoolData, Pools } from "./pools.tsx";

export interface Numbers {
  readonly machines: number;
  readonly idle: number;
  readonly busy: number;
  readonly drained: number;
  readonly setAside: number;
  readonly missing: number;
  readonly running: number;
  readonly waiting: number;
  /** When the lease that waits longest was wanted. */
  readonly oldestWait: number | null;
  /** How many of the builds with a verdict that ended in the last 24 hours were successful. */
  readonly good: number;
  /** How many of the good ones had tests that failed at first. */
  readonly flaky: number;
  readonly bad: number;
}

/** One of the last 24 hours. */
export interface Hour {
  readonly busyMs: number;
  readonly waitMs: number;
  readonly success: number;
  readonly flaky: number;
  readonly failure: number;
  readonly infra: number;
}

/** A builder that turned red, with the commit that did it, or the first of those that may have. */
export interface RedLine {
  readonly repo: string;
  readonly builder: string;
  /** The test that turned red. Null: it is the whole builder. */
  readonly test: string | null;
  readonly build: number;
  readonly hash: string;
  readonly subject: string;
  readonly author: string;
  /** How many commits before it have no result; 0: this one did it. */
  readonly between: number;
  readonly at: number;
}

export interface HomeData {
  readonly numbers: Numbers;
  readonly hours: readonly Hour[];
  readonly running: readonly BuildLine[];
  /** The waiting queues that are shown, and how many there are. */
  readonly waiting: { readonly groups: readonly WaitingGroup[]; readonly queues: number };
  readonly recent: readonly BuildLine[];
  /** The builders that turned red in the last 24 hours and are shown, the newest first. */
  readonly red: readonly RedLine[];
  readonly pools: PoolData;
  readonly checks: readonly Check[];
  /** The parts of the commands that an empty farm shows. */
  readonly start: {
    readonly dial: string;
    readonly hostType: string | null;
    readonly repos: number;
    readonly builders: number;
  };
}

export function HomePage(props: { data: HomeData; now: number }): JSX.Element {
  const { data } = props;
  const { numbers } = data;
  return (
    <>
      <h1 class="sr">What the farm is doing</h1>
      <div class="figures">
        <MachineFigures numbers={numbers} hours={data.hours} />
        <BuildFigures numbers={numbers} hours={data.hours} now={props.now} />
        <OutcomeFigures numbers={numbers} hours={data.hours} />
      </div>
      {numbers.machines === 0 ? <FirstMachine start={data.start} /> : null}
      {data.start.repos === 0 ? (
        <Empty>No repository is configured. Add one to `repos` in the farm's configuration.</Empty>
      ) : null}
      {data.red.length === 0 ? null : (
        <Section id="red" title="New failures">
          <RedRows red={data.red} />
        </Section>
      )}
      <Section
        id="active"
        title="Running"
        aside={numbers.running > data.running.length ? `${data.running.length} of ${grouped(numbers.running)}` : null}
      >
        <div class="first-row">
          {data.running.length === 0 ? (
            <Empty>Nothing runs.</Empty>
          ) : (
            <BuildRows label="Running builds" builds={data.running} kind="running" />
          )}
        </div>
      </Section>
      <Section
        id="pending"
        title="Waiting"
        aside={
          <a href="/queues">
            {data.waiting.queues > data.waiting.groups.length
              ? `${data.waiting.groups.length} of ${data.waiting.queues} queues that wait, all queues`
              : "all queues"}
          </a>
        }
      >
        <div class="first-row">
          {data.waiting.groups.length === 0 ? (
            <Empty>Nothing waits.</Empty>
          ) : (
            <WaitingRows groups={data.waiting.groups} />
          )}
        </div>
      </Section>
      <Pools pools={data.pools} />
      <Section id="health" title="Health">
        <CheckList checks={data.checks} />
      </Section>
      <Section
        id="completed"
        title="Recent"
        aside={[...new Set(data.recent.map((build) => build.repo))].map((repo) => (
          <a key={repo} href={repoHref(repo)}>
            all of <Name text={repo} />{" "}
          </a>
        ))}
      >
        {data.recent.length === 0 ? (
          <Empty>No build has ended yet.</Empty>
        ) : (
          <BuildRows label="Builds that ended last" builds={data.recent} kind="ended" />
        )}
      </Section>
    </>
  );
}

function RedRows(props: { red: readonly RedLine[] }): JSX.Element {
  return (
    <Table
      label="New failures"
      class="builds"
      cols={["builder", "free", "author", "when"]}
      head={["Builder", "Broken by", "Author", "#Since"]}
    >
      {props.red.map((row) => (
        <tr key={`${row.builder} ${row.build}`} data-row>
          <td>
            <a href={`/b/${row.build}`} class="open">
              <Mark status="failure" />
            </a>{" "}
            <Builder name={row.builder} repo={row.repo} />
            {row.test === null ? null : (
              <span class="muted red-test">
                <Name text={row.test} />
              </span>
            )}
          </td>
          <td>
            <Commit repo={row.repo} hash={row.hash} subject={row.subject} />
            {row.between > 0 ? <span class="muted"> or one of {plural(row.between, "commit")} before it</span> : null}
          </td>
          <td>
            <Name text={row.author} />
          </td>
          <td class="right when">
            <When at={row.at} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function MachineFigures(props: { numbers: Numbers; hours: readonly Hour[] }): JSX.Element {
  const { numbers: n, hours } = props;
  return (
    <div>
      <p class="figure">
        <a href="/machines">
          <b>{grouped(n.machines)}</b> {n.machines === 1 ? "machine" : "machines"}
        </a>
        <span>{grouped(n.idle)} idle</span>
        <span>{grouped(n.busy)} busy</span>
        {n.drained > 0 ? <span>{grouped(n.drained)} drained</span> : null}
        {n.setAside > 0 ? <span class="fl">{grouped(n.setAside)} set aside</span> : null}
        {n.missing > 0 ? <a href="#pools" class="fl">{`${grouped(n.missing)} missing`}</a> : null}
      </p>
      <Columns
        title="Machines busy, hour by hour, 24 hours"
        series={hours.map((h) => [{ css: "ru", value: h.busyMs }])}
      />
      <p class="caption">machines busy, 24 h</p>
    </div>
  );
}

function BuildFigures(props: { numbers: Numbers; hours: readonly Hour[]; now: number }): JSX.Element {
  const { numbers: n, hours } = props;
  return (
    <div>
      <p class="figure">
        <a href="#active">
          <b>{grouped(n.running)}</b> running
        </a>
        <a href="#pending">{grouped(n.waiting)} waiting</a>
        {n.oldestWait === null ? null : <span>oldest {durationText(props.now - n.oldestWait)}</span>}
      </p>
      <Columns
        title="Median wait before a build starts, hour by hour, 24 hours"
        series={hours.map((h) => [{ css: "wa", value: h.waitMs }])}
      />
      <p class="caption">wait before start, 24 h</p>
    </div>
  );
}

function OutcomeFigures(props: { numbers: Numbers; hours: readonly Hour[] }): JSX.Element {
  const { numbers: n, hours } = props;
  const all = n.good + n.bad;
  return (
    <div>
      <p class="figure">
        {all === 0 ? (
          <span>no outcome in 24 h</span>
        ) : (
          <>
            <a href="#completed">
              <b>{n.bad > 0 ? Math.min(99, Math.round((n.good / all) * 100)) : 100} %</b> green
            </a>
            <span>
              of {plural(all, "build")} in 24 h{n.flaky > 0 ? `, ${n.flaky} flaky` : ""}
            </span>
          </>
        )}
      </p>
      <Columns
        title="Builds ended, by outcome, hour by hour, 24 hours"
        series={hours.map((h) => [
          { css: "ok", value: h.success },
          { css: "fl", value: h.flaky },
          { css: "no", value: h.failure },
          { css: "in", value: h.infra },
        ])}
      />
      <p class="caption">builds per hour by outcome</p>
    </div>
  );
}

function FirstMachine(props: { start: HomeData["start"] }): JSX.Element {
  return (
    <Section title="No machine yet">
      <Lend dial={props.start.dial} hostType={props.start.hostType} />
    </Section>
  );
}
