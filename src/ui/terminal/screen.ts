/**
 * A terminal in the page: xterm, in the page's colours, as wide as its box. It is loaded only when somebody opens a
 * shell or plays one.
 */
import { FitAddon } from "@xterm/addon-fit";
import { type ITheme, Terminal } from "@xterm/xterm";
import { strictDocument } from "./strict-document.ts";

export interface TerminalScreen extends Disposable {
  readonly terminal: Terminal;
}

/** Opens a terminal. With `size` it has that size, whatever the room; without, that of its box. */
export function openScreen(
  box: HTMLElement,
  size?: { readonly columns: number; readonly rows: number },
): TerminalScreen {
  const strict = strictDocument(document);
  const terminal = new Terminal({
    documentOverride: strict.document,
    fontFamily: getComputedStyle(box).fontFamily,
    fontSize: 13,
    scrollback: 5000,
    minimumContrastRatio: 4.5, // also where a program chose colours that the page's ground hides
    theme: coloursOf(box),
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
  const turned = matchMedia("(prefers-color-scheme: dark)");
  const recolour = (): void => {
    terminal.options.theme = coloursOf(box);
  };
  turned.addEventListener("change", recolour);
  return {
    terminal,
    [Symbol.dispose]() {
      resized.disconnect();
      turned.removeEventListener("change", recolour);
      terminal.dispose();
      strict.drop();
    },
  };
}

function coloursOf(box: HTMLElement): ITheme {
  const { color, backgroundColor } = getComputedStyle(box);
  return {
    ...{ background: backgroundColor, foreground: color, cursor: color, cursorAccent: backgroundColor },
    selectionBackground: "#5c8fd666",
  };
}
