/** Text for use elsewhere, with a button that copies it. Without script, the reader selects it. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";

export function Copy(props: { label: string; text: string }): JSX.Element {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(props.text);
    setCopied(true);
  };
  const word = copied ? "Copied" : "Copy";
  return (
    <div class="copied-text">
      <pre class="command">{props.text}</pre>
      <button
        type="button"
        class="copy needs-script"
        aria-label={`${word}: ${props.label}`}
        onClick={() => void copy()}
      >
        {word}
      </button>
    </div>
  );
}
