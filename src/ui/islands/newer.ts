/**
 * Rows of commits that arrive while somebody looks at older ones.
 *
 * At the top of the grid, new rows are inserted at once. Further down no row comes or goes, so that nothing moves under
 * the reader: a note says how many commits are newer. A click on it goes up to them, as scrolling up does. The rows
 * that are shown take up results all the time.
 */
import { plural } from "../text.ts";

/**
 * The answer of `/p/REPO/rows`: the ids of all rows in order, and the HTML of those whose content the browser does not
 * have.
 */
export interface RowsAnswer {
  readonly order: readonly (readonly [id: string, version: string])[];
  readonly html: Readonly<Record<string, string>>;
}

export class Newer {
  readonly #box: HTMLElement;
  readonly #body: HTMLTableSectionElement;
  readonly #put: (rows: RowsAnswer) => void;
  readonly #note = document.createElement("div");
  readonly #button = document.createElement("button");
  /** The answer that is not shown yet: the order of all rows, and the HTML of the missing ones. */
  #held: RowsAnswer | undefined;

  /** `put` makes the table match an answer. `up` is called after a click, when the new rows are in place. */
  constructor(box: HTMLElement, body: HTMLTableSectionElement, put: (rows: RowsAnswer) => void, up: () => void) {
    this.#box = box;
    this.#body = body;
    this.#put = put;
    this.#note.className = "newer";
    this.#note.setAttribute("role", "status");
    this.#button.type = "button";
    this.#button.addEventListener("click", () => {
      this.#release();
      box.scrollTop = 0;
      this.#first()?.scrollIntoView({ block: "nearest" });
      up();
    });
    box.before(this.#note);
    const onScroll = (): void => {
      if (this.#held && this.#atTop()) this.#release();
    };
    box.addEventListener("scroll", onScroll, { passive: true });
    addEventListener("scroll", onScroll, { passive: true });
  }

  take(answer: RowsAnswer): void {
    const there = new Set([...this.#body.rows].map((row) => row.id));
    const html = { ...this.#held?.html, ...answer.html };
    const news = answer.order.map(([id]) => id).filter((id) => !there.has(id));
    if (news.length === 0 || this.#atTop()) {
      this.#held = undefined;
      this.#note.replaceChildren();
      this.#put({ order: answer.order, html });
      return;
    }
    this.#held = { order: answer.order, html: only(html, (id) => !there.has(id)) };
    this.#put({ order: [...there].map((id) => [id, ""]), html: only(html, (id) => there.has(id)) });
    this.#say(news, there);
  }

  #release(): void {
    const held = this.#held;
    this.#held = undefined;
    this.#note.replaceChildren();
    if (held) this.#put(held);
  }

  /**
   * Shows how many commits are newer. A commit that is tested with another repository has several rows, and counts
   * once.
   */
  #say(news: readonly string[], there: ReadonlySet<string>): void {
    const known = new Set([...there].map(commitOf));
    const commits = new Set(news.map(commitOf).filter((commit) => !known.has(commit))).size;
    this.#button.textContent = `↑ ${commits === 0 ? "newer results" : plural(commits, "newer commit")}`;
    this.#note.style.setProperty("--head", `${this.#head()}px`);
    this.#note.replaceChildren(this.#button);
  }

  /** Whether the newest commit is in sight. On a narrow screen the page scrolls, else the box does. */
  #atTop(): boolean {
    const first = this.#first();
    if (!first) return true;
    const top = Math.max(0, this.#box.getBoundingClientRect().top) + this.#head();
    return first.getBoundingClientRect().top >= top - 1;
  }

  #first(): HTMLTableRowElement | undefined {
    return [...this.#body.rows].find((row) => row.id !== "now");
  }

  /** The height of the head that stays over the rows. A narrow screen has none. */
  #head(): number {
    return this.#box.querySelector("thead")?.offsetHeight ?? 0;
  }
}

/** The hash of the commit, from the id of its row. */
function commitOf(id: string): string {
  return id.split("-", 1)[0] ?? id;
}

function only(html: RowsAnswer["html"], wanted: (id: string) => boolean): Record<string, string> {
  return Object.fromEntries(Object.entries(html).filter(([id]) => wanted(id)));
}
