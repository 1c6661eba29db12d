/**
 * Maps a scroll bar to lines and back, for logs that are taller than a browser can make an element.
 *
 * Up to TALLEST pixels the bar is true: one line is ROW pixels. Beyond that, the bar's whole length stands for the
 * whole log, so that dragging reaches every part. A small move (wheel, arrow, page key) still goes by ROW pixels a
 * line, and the bar is corrected when it rests.
 */
export const ROW = 20;
const TALLEST = 8_000_000;

export class ScrollMap {
  /** The first line in sight, from 0, with a fraction: 12.5 is half a row into the thirteenth line. */
  top = 0;
  #lines: number;
  #view = 0;
  #bar = 0;

  constructor(lines: number) {
    this.#lines = lines;
  }

  get height(): number {
    return Math.min(this.#lines * ROW, TALLEST);
  }
  /** The `top` at which the last line stands at the bottom. */
  get last(): number {
    return Math.max(0, this.#lines - this.#view / ROW);
  }
  get atEnd(): boolean {
    return this.top >= this.last - 1;
  }

  /** Where the bar was last known to be. A scroll event with the same position is one that we caused. */
  get seen(): number {
    return this.#bar;
  }

  resize(lines: number, view: number): void {
    this.#lines = lines;
    this.#view = view;
    this.top = Math.min(this.top, this.last);
  }

  /** Takes note that the bar was moved to `bar`, by the reader or by us. */
  moved(bar: number): void {
    const delta = bar - this.#bar;
    this.#bar = bar;
    if (this.#lines * ROW <= TALLEST) this.top = bar / ROW;
    else if (Math.abs(delta) <= 3 * this.#view) this.top += delta / ROW;
    else this.top = (bar / Math.max(1, this.height - this.#view)) * this.last;
    this.top = Math.max(0, Math.min(this.top, this.last));
  }

  /** Makes `line` (from 0) the first in sight. Returns where the bar belongs. */
  goTo(line: number): number {
    this.top = Math.max(0, Math.min(line, this.last));
    return this.bar();
  }

  /** Where the bar belongs for the present `top`. */
  bar(): number {
    const real = this.#lines * ROW <= TALLEST;
    const most = Math.max(0, this.height - this.#view);
    this.#bar = Math.min(most, Math.round(real ? this.top * ROW : this.last === 0 ? 0 : (this.top / this.last) * most));
    return this.#bar;
  }
}
