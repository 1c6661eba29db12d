/**
 * A log line as spans of text with classes. Colours and weights (SGR) are kept, all other control sequences are
 * removed, and other control characters are made visible. Of a line that a progress bar overwrote with CR, only what a
 * terminal would show last is kept.
 *
 * A program that runs tests writes a marker where a test begins or ends. It is shown as its words, `begin NAME`,
 * without the mark, which is for the farm alone. A marker goes to the end of its line, after any output; of several in
 * a line, the last one counts. It does not matter here whether the marker belongs to this run. The raw log has the
 * whole line.
 *
 * The 256 and the 16 million colours become the nearest of the 16, whose shades style.css has chosen to be readable in
 * light and dark. Colours carry from line to line through `AnsiState`, as tools expect. Unknown numbers in an SGR
 * sequence change nothing.
 */
import { visible } from "./text.ts";

export interface Span {
  readonly text: string;
  /**
   * Classes of style.css, separated by spaces: `f1` is the text colour and `b4` the ground, of 16 each; `bo di it un
   * st` are weights and lines.
   */
  readonly css: string;
}

export interface AnsiState {
  fg: string;
  bg: string;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  strike: boolean;
  inverse: boolean;
}

export function ansiState(): AnsiState {
  return { fg: "", bg: "", bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false };
}

// CSI ... final | OSC ... (BEL or ST) | DCS, SOS, PM, APC ... ST | two-character escapes | a lone or unfinished one.
const ESCAPE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences are what this looks for.
  /\u001b(?:\[([0-9;:<=>?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])?/g;

const MARKER = /^(.*)##barnraiser:[0-9a-f]{32} ([a-z]+ .*)$/s;

/** A line (without its LF) as a terminal shows it last: the printed text, and the words of a marker after it. */
export function parted(line: string): { readonly printed: string; readonly marker: string | undefined } {
  const shown = lastWritten(line);
  const [, printed = shown, marker] = MARKER.exec(shown) ?? [];
  return { printed, marker };
}

/** The spans of one line (without its LF). `state` is changed to the state in which the next line begins. */
export function spans(line: string, state: AnsiState): Span[] {
  const { printed, marker } = parted(line);
  const out: Span[] = [];
  let from = 0;
  const push = (text: string): void => {
    if (text === "") return;
    const clean = keepTabs(text);
    const css = classes(state);
    const last = out.at(-1);
    if (last && last.css === css) out[out.length - 1] = { text: last.text + clean, css };
    else out.push({ text: clean, css });
  };
  for (const match of printed.matchAll(ESCAPE)) {
    push(printed.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") apply(match[1] ?? "", state);
  }
  push(printed.slice(from));
  return marker === undefined ? out : [...out, { text: bare(marker), css: "mk" }];
}

/** The text of a line as `spans` shows it, for searching and for plain readers. */
export function plain(line: string): string {
  const { printed, marker = "" } = parted(line);
  return bare(printed) + bare(marker);
}

function bare(text: string): string {
  return keepTabs(text.replace(ESCAPE, ""));
}

/**
 * The text that a terminal shows last: after `a CR b` it is b. A CR at the end of the line belongs to a line end of
 * another system.
 */
function lastWritten(line: string): string {
  const whole = line.replace(/\r+$/, "");
  return whole.slice(whole.lastIndexOf("\r") + 1);
}

function keepTabs(text: string): string {
  return text.includes("\t") ? text.split("\t").map(visible).join("\t") : visible(text);
}

function classes(s: AnsiState): string {
  const fg = s.inverse ? s.bg.replace("b", "f") || "finv" : s.fg;
  const bg = s.inverse ? s.fg.replace("f", "b") || "binv" : s.bg;
  return [fg, bg, s.bold && "bo", s.dim && "di", s.italic && "it", s.underline && "un", s.strike && "st"]
    .filter(Boolean)
    .join(" ");
}

function apply(parameters: string, s: AnsiState): void {
  const codes = (parameters === "" ? "0" : parameters).split(/[;:]/).map((n) => (n === "" ? 0 : Number(n)));
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    if (code === 38 || code === 48) {
      const colour = extended(codes, i);
      i = colour.next;
      if (colour.index !== undefined && code === 38) s.fg = `f${colour.index}`;
      else if (colour.index !== undefined) s.bg = `b${colour.index}`;
    } else simple(code, s);
  }
}

function simple(code: number, s: AnsiState): void {
  if (code === 0) Object.assign(s, ansiState());
  else if (code === 1) s.bold = true;
  else if (code === 2) s.dim = true;
  else if (code === 3) s.italic = true;
  else if (code === 4) s.underline = true;
  else if (code === 7) s.inverse = true;
  else if (code === 9) s.strike = true;
  else if (code === 22) s.bold = s.dim = false;
  else if (code === 23) s.italic = false;
  else if (code === 24) s.underline = false;
  else if (code === 27) s.inverse = false;
  else if (code === 29) s.strike = false;
  else if (code === 39) s.fg = "";
  else if (code === 49) s.bg = "";
  else if (code >= 30 && code <= 37) s.fg = `f${code - 30}`;
  else if (code >= 90 && code <= 97) s.fg = `f${code - 82}`;
  else if (code >= 40 && code <= 47) s.bg = `b${code - 40}`;
  else if (code >= 100 && code <= 107) s.bg = `b${code - 92}`;
}

/**
 * Reads a long colour: `5;N` is an index of the 256, `2;R;G;B` a colour. Returns the nearest of the 16, and where to
 * read on.
 */
function extended(codes: readonly number[], at: number): { index: number | undefined; next: number } {
  if (codes[at + 1] === 5) return { index: fromIndex(codes[at + 2] ?? 0), next: at + 2 };
  if (codes[at + 1] !== 2) return { index: undefined, next: at };
  const [r = 0, g = 0, b = 0] = codes.slice(at + 2, at + 5);
  return { index: nearest(r, g, b), next: at + 4 };
}

function fromIndex(index: number): number | undefined {
  if (index < 16) return index;
  if (index > 255) return undefined;
  if (index >= 232) return nearest(...grey(8 + (index - 232) * 10));
  const level = (n: number): number => (n === 0 ? 0 : 55 + n * 40);
  const cube = index - 16;
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

function grey(level: number): [number, number, number] {
  return [level, level, level];
}

/**
 * The nearest of the 16 colours. The hue says which of red, green and blue are on; the brightest of them decides
 * between the normal and the bright eight.
 */
function nearest(r: number, g: number, b: number): number {
  const most = Math.max(r, g, b);
  const least = Math.min(r, g, b);
  if (most - least < 40) return most < 64 ? 0 : most < 128 ? 8 : most < 208 ? 7 : 15;
  const middle = (most + least) / 2;
  const hue = (r > middle ? 1 : 0) + (g > middle ? 2 : 0) + (b > middle ? 4 : 0);
  return most > 215 ? hue + 8 : hue;
}
