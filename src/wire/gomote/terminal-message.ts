/**
 * What a terminal in a browser and its coordinator say to each other: WebSocket at `/gomotes/NAME/shell`, from a page of the farm's own.
 *
 *   binary   browser to coordinator: what was typed.  Coordinator to browser: what the terminal printed, every byte of it
 *   text     one JSON object
 *
 *   > {"open": {"columns", "rows", "shell", "from"}}   first and once; `shell`: one that was opened before, of which the browser has `from` bytes
 *   > {"resize": {"columns", "rows"}}
 *   > {"shown": N}                                     so many bytes are on the screen by now, from the very first of the shell
 *   < {"opened": {"shell", "at", "note"}}              before any bytes: the next one is number `at` of the shell
 *   < {"ended": SENTENCE}                              last: the shell is over, and why
 *
 * The coordinator sends at most WINDOW bytes beyond what is shown, so a screen that is slow holds its program back, and nobody's memory fills.
 * A connection that breaks leaves the shell open for KEPT_MS; whoever comes back within that goes on with the next byte, or, when more was printed
 * meanwhile than SCREEN, with the last SCREEN bytes.
 */
export const WINDOW: number = 256 * 1024;
export const SCREEN: number = 128 * 1024;
export const KEPT_MS = 60_000;
/** Of one message to the coordinator. */
export const MOST_TYPED: number = 64 * 1024;
/** WebSocket close code after `ended`: there is nothing to come back to. */
export const OVER = 4000;

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

export type FromBrowser =
  | { readonly open: Size & { readonly shell: string | null; readonly from: number } }
  | { readonly resize: Size }
  | { readonly shown: number };

export type ToBrowser =
  | { readonly opened: { readonly shell: string; readonly at: number; readonly note: string } }
  | { readonly ended: string };

/** What a browser said; undefined: nothing that is known. */
export function readFromBrowser(text: string): FromBrowser | undefined {
  const value = objectOf(text);
  const open = fieldsOf(value?.open);
  if (open) {
    const size = sizeOf(open);
    const { shell, from } = open;
    return size && (shell === null || typeof shell === "string") && isCount(from)
      ? { open: { ...size, shell, from } }
      : undefined;
  }
  const resize = sizeOf(fieldsOf(value?.resize) ?? {});
  if (resize) return { resize };
  return isCount(value?.shown) ? { shown: value.shown } : undefined;
}

function objectOf(text: string): { readonly [name: string]: unknown } | undefined {
  try {
    return fieldsOf(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function fieldsOf(value: unknown): { readonly [name: string]: unknown } | undefined {
  return typeof value === "object" && value !== null ? { ...value } : undefined;
}

function sizeOf({ columns, rows }: { readonly [name: string]: unknown }): Size | undefined {
  const isSide = (side: unknown): side is number => isCount(side) && side >= 1 && side <= 1000;
  return isSide(columns) && isSide(rows) ? { columns, rows } : undefined;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
