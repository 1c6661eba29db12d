/** A terminal in the page: xterm, in the colours of the page, as wide as its box. Loaded only once somebody opens a shell or plays one. */
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { strictDocument } from "./strict-document.ts";

export interface TerminalScreen extends Disposable {
  readonly terminal: Terminal;
}

/** `size`: of what is shown, whatever room there is; left out: as the box. */
export function openScreen(
  box: HTMLElement,
  size?: { readonly columns: number; readonly rows: number },
): TerminalScreen {
  const { color, backgroundColor, fontFamily } = getComputedStyle(box);
  const strict = strictDocument(document);
  const terminal = new Terminal({
    documentOverride: strict.document,
    fontFamily,
    fontSize: 13,
    scrollback: 5000,
    minimumContrastRatio: 4.5, // whatever a program chose, on the ground of this page
    theme: {
      ...{ background: backgroundColor, foreground: color, cursor: color, cursorAccent: backgroundColor },
      selectionBackground: "#5c8fd666",
    },
    ...(size && { cols: size.columns, rows: size.rows, disableStdin: true }),
  });
  const addon = new FitAddon();
  terminal.loadAddon(addon);
  strict.during(() => terminal.open(box));
  const fill = (): void => {
    if (!size) addon.fit();
  };
  fill();
  const resized = new ResizeObserver(fill);
  resized.observe(box);
  return {
    terminal,
    [Symbol.dispose]() {
      resized.disconnect();
      terminal.dispose();
      strict.drop();
    },
  };
}
