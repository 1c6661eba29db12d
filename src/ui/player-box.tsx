/** Plays the recording of a shell. Without script it can be downloaded as an asciicast. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { durationText } from "../farm/duration-text.ts";
import type { Player } from "./terminal/player.ts";

type State =
  | { readonly phase: "none" | "loading" }
  | { readonly phase: "there"; readonly at: number; readonly length: number; readonly plays: boolean }
  | { readonly phase: "failed"; readonly why: string };

export function PlayerBox(props: { href: string; label: string }): JSX.Element {
  const { href, label } = props;
  const [state, setState] = useState<State>({ phase: "none" });
  const box = useRef<HTMLDivElement>(null);
  const player = useRef<Player | undefined>(undefined);
  useEffect(() => () => player.current?.[Symbol.dispose](), []);
  const load = async (): Promise<void> => {
    setState({ phase: "loading" });
    try {
      const [answer, { openPlayer, readCast }] = await Promise.all([fetch(href), import("./terminal/player.ts")]);
      if (!answer.ok || !box.current) throw new Error(`The farm answered ${answer.status}.`);
      const cast = readCast(await answer.text());
      const { length } = cast;
      player.current = openPlayer(box.current, cast, (at, plays) => setState({ phase: "there", at, length, plays }));
      setState({ phase: "there", at: 0, length, plays: true });
      player.current.play();
    } catch (error) {
      setState({ phase: "failed", why: error instanceof Error ? error.message : String(error) });
    }
  };
  return (
    <div class="player">
      {state.phase === "there" ? (
        <div class="operate">
          <button type="button" onClick={() => (state.plays ? player.current?.pause() : player.current?.play())}>
            {state.plays ? "Pause" : "Play"}
          </button>
          <input
            type="range"
            min={0}
            max={state.length}
            step={0.1}
            value={state.at}
            aria-label={`Position in ${label}`}
            onInput={({ currentTarget }) => player.current?.seek(Number(currentTarget.value))}
          />
          <span class="num muted">
            {durationText(state.at * 1000)} of {durationText(state.length * 1000)}
          </span>
          <label>
            Speed{" "}
            <select onChange={({ currentTarget }) => player.current?.speed(Number(currentTarget.value))}>
              <option value="1">1</option>
              <option value="4">4</option>
              <option value="16">16</option>
            </select>
          </label>
        </div>
      ) : (
        <div class="operate">
          <button
            type="button"
            class="needs-script"
            aria-label={`Play ${label}`}
            disabled={state.phase === "loading"}
            onClick={() => void load()}
          >
            Play
          </button>
          <a href={href} download>
            asciicast
          </a>
          {state.phase === "failed" ? <span class="no">{state.why}</span> : null}
        </div>
      )}
      <div ref={box} class="shell-screen played" hidden={state.phase !== "there"} />
    </div>
  );
}
