/**
 * The shell of an instance on its page: a button, then a terminal. A paste of several lines is shown before it is run.
 */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { pasteLines, pasteText } from "./paste.ts";
import type { BrowserShell } from "./terminal/shell.ts";
import { plural } from "./text.ts";

type State =
  | { readonly phase: "none" }
  | { readonly phase: "opening" | "open" | "lost" }
  | { readonly phase: "ended"; readonly why: string };

const SAID: Readonly<Record<"opening" | "open" | "lost", string>> = {
  opening: "Opening a shell…",
  open: "Connected. What is printed here is recorded, for you and for the owner of the machine; what you type is not.",
  lost: "The connection was lost; trying again…",
};

export function ShellBox(props: { instance: string }): JSX.Element {
  const [state, setState] = useState<State>({ phase: "none" });
  const [pasted, setPasted] = useState<string | undefined>(undefined);
  const box = useRef<HTMLDivElement>(null);
  const shell = useRef<BrowserShell | undefined>(undefined);
  const dialog = useRef<HTMLDialogElement>(null);
  const behind = useRef<HTMLParagraphElement>(null);
  useEffect(() => () => shell.current?.close(), []);

  const open = async (): Promise<void> => {
    setState({ phase: "opening" });
    shell.current?.close();
    shell.current = undefined;
    try {
      const { openShell } = await import("./terminal/shell.ts");
      if (!box.current) return;
      shell.current = openShell(box.current, props.instance, {
        state: (phase) => {
          setState({ phase });
          if (phase === "open") box.current?.scrollIntoView({ block: "nearest" });
        },
        ended: (why) => setState({ phase: "ended", why }),
      });
      shell.current.focus();
    } catch {
      setState({ phase: "ended", why: "The terminal could not be loaded; load the page again." });
    }
  };
  /** A terminal takes every key that moves the focus in a page, such as Tab. */
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "F6" || !event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    behind.current?.focus();
  };
  const onPaste = (event: ClipboardEvent): void => {
    event.preventDefault();
    event.stopPropagation();
    const text = pasteText(event.clipboardData?.getData("text/plain") ?? "");
    if (pasteLines(text) < 2) shell.current?.paste(text);
    else {
      setPasted(text);
      dialog.current?.showModal();
    }
  };
  const answered = (paste: boolean): void => {
    if (paste && pasted !== undefined) shell.current?.paste(pasted);
    setPasted(undefined);
    dialog.current?.close();
    shell.current?.focus();
  };
  const shown = state.phase !== "none";
  return (
    <div class="shell">
      <p class="muted without-script">
        A shell in the browser needs script; <code>gomote ssh {props.instance}</code> opens one in a terminal.
      </p>
      <p class="operate needs-script">
        {state.phase === "none" || state.phase === "ended" ? (
          <button type="button" onClick={() => void open()}>
            {state.phase === "none" ? "Open a shell" : "Open another shell"}
          </button>
        ) : null}
        <span role="status" class={state.phase === "lost" || state.phase === "ended" ? "fl" : "muted"}>
          {state.phase === "none" ? null : state.phase === "ended" ? state.why : SAID[state.phase]}
        </span>
      </p>
      <div ref={box} class="shell-screen" hidden={!shown} onPasteCapture={onPaste} onKeyDownCapture={onKeyDown} />
      <p ref={behind} class="muted" tabIndex={-1} hidden={!shown}>
        <kbd>Ctrl</kbd> <kbd>F6</kbd> leaves the terminal for the rest of the page.
      </p>
      <dialog ref={dialog} class="paste" aria-label="Paste several lines">
        <h2>Paste {plural(pasteLines(pasted ?? ""), "line")}?</h2>
        <p>A shell may run each line as it arrives.</p>
        <pre class="command">{pasted}</pre>
        <div class="operate">
          <button type="button" onClick={() => answered(true)}>
            Paste
          </button>
          <button type="button" onClick={() => answered(false)}>
            Cancel
          </button>
        </div>
      </dialog>
    </div>
  );
}
