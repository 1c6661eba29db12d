/**
 * Sends files from this computer, one after the other and as they are, each to an address that belongs to its name.
 * Shows how far each is, and loads the page again once all are sent.
 */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { sizeText } from "../farm/size-text.ts";
import { plural, visible } from "./text.ts";

type Sending =
  | { readonly phase: "none" }
  | {
      readonly phase: "sending";
      readonly name: string;
      readonly sent: number;
      readonly size: number;
      readonly after: number;
    }
  | { readonly phase: "refused"; readonly why: string };

export function Upload(props: { to: (name: string) => string }): JSX.Element {
  const [sending, setSending] = useState<Sending>({ phase: "none" });
  const stop = useRef<() => void>(() => {});
  const send = async (files: readonly File[]): Promise<void> => {
    for (const [at, file] of files.entries()) {
      const { name, size } = file;
      const after = files.length - at - 1;
      const told = (sent: number) => setSending({ phase: "sending", name, sent, size, after });
      told(0);
      const why = await put(props.to(name), file, told, (abort) => {
        stop.current = abort;
      });
      if (why !== undefined) {
        setSending({ phase: "refused", why });
        return;
      }
    }
    location.reload();
  };
  return (
    <div class="upload needs-script">
      <label>
        Upload files{" "}
        <input
          type="file"
          multiple
          disabled={sending.phase === "sending"}
          onChange={({ currentTarget: { files } }) => {
            if (files && files.length > 0) void send([...files]);
          }}
        />
      </label>
      {sending.phase === "sending" ? (
        <>
          <progress
            max={sending.size}
            value={sending.sent}
            aria-label={`How much of ${visible(sending.name)} is sent`}
          />
          <span class="num">
            {sizeText(sending.sent)} of {sizeText(sending.size)}
          </span>
          <button type="button" onClick={() => stop.current()}>
            Stop
          </button>
        </>
      ) : null}
      <span role="status">
        {sending.phase === "sending"
          ? `Sending ${visible(sending.name)}${sending.after === 0 ? "" : ` and ${plural(sending.after, "more file", "more files")}`}…`
          : null}
        {sending.phase === "refused" ? <span class="no">{sending.why}</span> : null}
      </span>
    </div>
  );
}

/** Sends a file. Returns why that failed, or undefined. `fetch` does not tell how far it is, so it is not used. */
function put(
  url: string,
  file: File,
  told: (sent: number) => void,
  stoppable: (stop: () => void) => void,
): Promise<string | undefined> {
  const name = visible(file.name);
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", ({ loaded }) => told(loaded));
    request.addEventListener("load", () => {
      resolve(request.status === 200 ? undefined : refusal(request));
    });
    request.addEventListener("error", () => resolve(`The connection broke while ${name} was sent.`));
    request.addEventListener("abort", () => resolve(`${name} was stopped; what arrived of it may be there.`));
    stoppable(() => request.abort());
    request.send(file);
  });
}

function refusal({ responseText, status }: XMLHttpRequest): string {
  try {
    const { error } = JSON.parse(responseText) as { readonly error?: string };
    if (error !== undefined) return error;
  } catch {
    // no answer of the farm's
  }
  return `The farm answered ${status}.`;
}
