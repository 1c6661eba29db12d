/** Sends one file from this computer, as it is, to an address that its name belongs to. The page is loaded again once it is there. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";

type Sending =
  | { readonly phase: "none" }
  | { readonly phase: "sending"; readonly name: string }
  | { readonly phase: "refused"; readonly why: string };

export function Upload(props: { to: (name: string) => string }): JSX.Element {
  const [sending, setSending] = useState<Sending>({ phase: "none" });
  const send = async (file: File): Promise<void> => {
    setSending({ phase: "sending", name: file.name });
    try {
      const headers = { accept: "application/json", "content-type": "application/octet-stream" };
      const answer = await fetch(props.to(file.name), { method: "PUT", headers, body: file });
      if (answer.ok) return location.reload();
      const { error } = (await answer.json().catch(() => ({}))) as { readonly error?: string };
      setSending({ phase: "refused", why: error ?? `The farm answered ${answer.status}.` });
    } catch {
      setSending({ phase: "refused", why: `The connection broke while ${file.name} was sent.` });
    }
  };
  return (
    <div class="upload needs-script">
      <label>
        Upload a file{" "}
        <input
          type="file"
          disabled={sending.phase === "sending"}
          onChange={({ currentTarget: { files } }) => {
            const [file] = files ?? [];
            if (file) void send(file);
          }}
        />
      </label>
      <span role="status">
        {sending.phase === "sending" ? `Sending ${sending.name}…` : null}
        {sending.phase === "refused" ? <span class="no">{sending.why}</span> : null}
      </span>
    </div>
  );
}
