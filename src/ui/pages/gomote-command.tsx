/** `/gomotes/NUMBER/commands/NUMBER`: one command or shell on a machine that somebody borrowed, with all its words. */
import type { JSX } from "preact";
import { sizeText } from "../../farm/size-text.ts";
import { Copy } from "../copy.tsx";
import { type CommandLine, CommandState } from "../gomote.tsx";
import { Fact, Name, Section, Span, When } from "../parts.tsx";
import { PlayerBox } from "../player-box.tsx";
import { visible, visibleLines } from "../text.ts";
import { utc } from "../time.ts";

export interface GomoteCommandData {
  readonly line: CommandLine;
  readonly words: string;
  /** How many bytes the words had, where only the beginning of them is kept. */
  readonly cutFrom: number | null;
  /** The address of its instance. */
  readonly href: string;
}

export function GomoteCommandPage(props: { data: GomoteCommandData }): JSX.Element {
  const { line, words, cutFrom, href } = props.data;
  const { id, instance, who, dir, startedAt, endedAt, recorded } = line;
  return (
    <>
      <h1>
        Command <span class="num">{id}</span> on{" "}
        <a href={href}>
          <Name text={instance} />
        </a>
      </h1>
      <div class="operate">
        <CommandState line={line} />
      </div>
      <dl class="facts">
        <Fact name="Run by">
          <Name text={who} />
        </Fact>
        <Fact name="In folder">
          {dir === "" ? <span class="muted">the work folder</span> : <code>{visible(dir)}</code>}
        </Fact>
        <Fact name="Began">
          <When at={startedAt} />
        </Fact>
        <Fact name="Took">
          <Span from={startedAt} to={endedAt} />
        </Fact>
      </dl>
      <Section id="words" title="What was run">
        {cutFrom === null ? null : (
          <p class="muted">
            It is longer: the farm keeps the first {sizeText(new TextEncoder().encode(words).length)} of{" "}
            {sizeText(cutFrom)}.
          </p>
        )}
        <Copy label="what was run" text={visibleLines(words)} />
      </Section>
      {recorded && endedAt !== null ? (
        <Section id="recording" title="Recorded shell">
          <PlayerBox
            href={`/gomotes/${line.instanceId}/recordings/${id}.cast`}
            label={`the shell of ${utc(startedAt)}`}
          />
        </Section>
      ) : null}
    </>
  );
}
