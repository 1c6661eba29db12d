/** `/gomotes/NAME`: one instance: how much time it has, what was run on it, its files, and how to work on it. */
import type { JSX } from "preact";
import { Copy } from "../copy.tsx";
import {
  type CommandPage,
  CommandRows,
  type InstanceLine,
  instanceHref,
  placeText,
  StateMark,
  Until,
} from "../gomote.tsx";
import { Act, Empty, Fact, Machine, Name, Section, Span, Sure, When } from "../parts.tsx";
import { PlayerBox } from "../player-box.tsx";
import { ShellBox } from "../shell-box.tsx";
import { visible } from "../text.ts";
import { utc } from "../time.ts";

export interface GomoteData {
  readonly line: InstanceLine;
  readonly workingDir: string | null;
  /** Whether the machine's agent gives shells to browsers. */
  readonly hasShell: boolean;
  /** Whether the visitor is the borrower, who may use it. Others may only look, and end it. */
  readonly use: boolean;
  readonly as: "borrower" | "owner of the machine" | "operator";
  readonly commands: CommandPage;
  /** The HOST:PORT of the farm, for programs. */
  readonly server: string;
}

export function GomotePage(props: { data: GomoteData }): JSX.Element {
  const { line, workingDir, hasShell, use, commands } = props.data;
  const recorded = commands.lines.filter((command) => command.recorded && command.endedAt !== null);
  const lives = line.state !== "ended";
  return (
    <>
      <h1>
        <Name text={line.name} /> <StateMark state={line.state} />
      </h1>
      <p class="lead">
        <TimeLeft line={line} />
      </p>
      {lives ? <Ways data={props.data} /> : null}
      <dl class="facts">
        <Fact name="Borrowed by">
          <Name text={line.email} />
        </Fact>
        <Fact name="Type">{visible(line.builderType)}</Fact>
        <Fact name="Machine">
          {line.machine === null ? <span class="muted">none yet</span> : <Machine machine={line.machine} />}{" "}
          <span class="muted">{visible(line.hostType)}</span>
        </Fact>
        <Fact name="Work folder">
          {workingDir === null ? <span class="muted">none yet</span> : <code>{visible(workingDir)}</code>}
        </Fact>
        <Fact name="Asked for">
          <When at={line.createdAt} />
        </Fact>
        {line.upAt === null ? null : (
          <Fact name="Up for">
            <Span from={line.upAt} to={line.endedAt} />
          </Fact>
        )}
      </dl>
      {use && line.state === "up" ? (
        <>
          <Section id="shell" title="Shell">
            {hasShell ? (
              <ShellBox instance={line.name} />
            ) : (
              <p>
                Its machine runs the original buildlet, which has no shell for a browser:{" "}
                <a href="#command-line">use one from a terminal</a>.
              </p>
            )}
          </Section>
          <Section id="files" title="Files">
            <form action={`${instanceHref(line)}/files`} class="filter">
              <label>
                Folder <input name="path" placeholder="the work folder" maxLength={1000} />
              </label>
              <button type="submit">Show files</button>
            </form>
          </Section>
          <Section id="command-line" title="From a terminal">
            <Reach data={props.data} />
          </Section>
        </>
      ) : null}
      {recorded.length === 0 ? null : (
        <Section id="recordings" title="Recorded shells">
          {recorded.map(({ id, who, startedAt, endedAt }) => (
            <div key={id} class="recording">
              <Name text={who} /> <When at={startedAt} />, for <Span from={startedAt} to={endedAt} />
              <PlayerBox href={`/gomotes/${line.id}/recordings/${id}.cast`} label={`the shell of ${utc(startedAt)}`} />
            </div>
          ))}
        </Section>
      )}
      <Section id="commands" title="Commands">
        {commands.isFirst && commands.lines.length === 0 ? (
          <Empty>Nothing was run on it{lives ? " yet" : ""}.</Empty>
        ) : (
          <CommandRows page={commands} instances={false} href={instanceHref(line)} section="commands" />
        )}
      </Section>
    </>
  );
}

function TimeLeft(props: { line: InstanceLine }): JSX.Element {
  const { state, ahead, expiresAt, limitAt, endedAt, endReason } = props.line;
  if (state === "ended")
    return (
      <>
        It ended <When at={endedAt ?? expiresAt} />: {visible(endReason ?? "nobody knows why")}.
      </>
    );
  if (state === "waiting")
    return (
      <>
        It waits for a machine, {placeText(ahead)}; for <Until at={expiresAt} /> more at most.
      </>
    );
  return (
    <>
      It ends in <Until at={expiresAt} /> unless it is used
      {limitAt === null ? null : (
        <>
          , and in <Until at={limitAt} /> whatever happens
        </>
      )}
      .
    </>
  );
}

/** The buttons. Destroying asks once more, since everything on the instance is lost. */
function Ways(props: { data: GomoteData }): JSX.Element {
  const { line, use, as } = props.data;
  const at = instanceHref(line);
  if (!use)
    return (
      <div class="operate">
        <p class="muted">You see it as {as === "operator" ? "an operator" : "the owner of its machine"}.</p>
        <Sure
          word="End it…"
          sentence="Whoever has it is told that it ended, by whom and why; what is on it is deleted."
        >
          <Act action={`${at}/end`} label="End it" note="why (its borrower reads it)" danger />
        </Sure>
      </div>
    );
  return (
    <div class="operate">
      {line.state === "waiting" ? null : <Act action={`${at}/extend`} label="I still need it" />}
      <Sure
        word="Destroy…"
        sentence={
          line.state === "waiting"
            ? "Nobody will wait for it any more."
            : "What runs on it is stopped, and all that is on it is deleted."
        }
      >
        <Act action={`${at}/destroy`} label="Destroy it" danger />
      </Sure>
    </div>
  );
}

function Reach(props: { data: GomoteData }): JSX.Element {
  const { line, server } = props.data;
  const name = visible(line.name);
  return (
    <>
      <Copy label="the command that opens a shell on it" text={`gomote -server=${visible(server)} ssh ${name}`} />
      <Copy
        label="the command that runs something on it"
        text={`gomote -server=${visible(server)} run ${name} /bin/sh -c 'uname -a'`}
      />
      <p class="muted">
        <a href="/me#command-line">How the command line is set up.</a>
      </p>
    </>
  );
}
