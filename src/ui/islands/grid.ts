/**
 * The grid in the browser: arrows move, Enter opens, a card says more about the focused cell, and rows change as builds
 * do.
 *
 * Rows are replaced one by one, by the server's HTML for them. newer.ts decides where new rows are inserted. The focus
 * stays at the same place: row and column.
 */

import { durationText } from "../../farm/duration-text.ts";
import type { Live } from "../live.ts";
import { STATUS } from "../status.ts";
import { visible } from "../text.ts";
import { oneAtATime } from "./events.ts";
import { Newer, type RowsAnswer } from "./newer.ts";

interface CellAnswer {
  readonly id: number;
  readonly builder: string;
  readonly status: keyof typeof STATUS;
  readonly tookMs: number | null;
  readonly machine: string | null;
  readonly step: string | null;
  readonly rebuildCanceled: boolean;
  /** Why the build was skipped. */
  readonly reason: string | null;
  readonly last: readonly string[];
}

export function grid(box: HTMLElement, live: Live, topics: readonly string[]): void {
  const table = box.querySelector("table");
  const body = table?.tBodies[0];
  if (!table || !body) return;
  table.setAttribute("role", "grid");
  const cursor = new Cursor(box, table);
  const card = new Card(box);
  times(body);
  cursor.oneStop(body);
  const put = (rows: RowsAnswer): void => {
    cursor.keep(() => replace(body, rows));
    cursor.oneStop(body);
  };
  const newer = new Newer(box, body, put, () => cursor.toNewest());
  const versions = new Map<string, string>();
  const update = oneAtATime(async () => {
    const have = [...versions.values()].join(".");
    const at = box.dataset.rows ?? "";
    const response = await fetch(`${at}${at.includes("?") ? "&" : "?"}have=${have}`);
    if (!response.ok) return;
    const answer = (await response.json()) as RowsAnswer;
    newer.take(answer);
    versions.clear();
    for (const [id, version] of answer.order) versions.set(id, version);
  });
  for (const topic of topics) live.listen(topic, update);
  setInterval(() => {
    times(body);
    if (body.querySelector("td.ru")) update(); // the rings of running builds move
  }, 20_000);
  body.addEventListener("pointerover", (event) => {
    const cell = event.target instanceof Element ? event.target.closest("td") : null;
    if (cell) void card.show(cell);
    else card.hide();
  });
  box.addEventListener("pointerleave", () => card.hide());
  body.addEventListener("focusin", (event) => {
    const cell = event.target instanceof Element ? event.target.closest("td") : null;
    if (cell) void card.show(cell);
  });
  box.addEventListener("focusout", () => card.hide());
}

function replace(body: HTMLTableSectionElement, answer: RowsAnswer): void {
  const old = new Map([...body.rows].map((row) => [row.id, row]));
  const template = document.createElement("template");
  let before: Element | null = body.firstElementChild;
  for (const [id] of answer.order) {
    const html = answer.html[id];
    let row = old.get(id);
    old.delete(id);
    if (html !== undefined) {
      template.innerHTML = `<table><tbody>${html}</tbody></table>`;
      const fresh = template.content.querySelector("tr");
      if (fresh) {
        if (row) {
          if (before === row) before = fresh;
          row.replaceWith(fresh);
        }
        row = fresh;
      }
    }
    if (!row) continue;
    if (row !== before) body.insertBefore(row, before);
    else before = row.nextElementSibling;
  }
  for (const row of old.values()) row.remove();
  times(body);
}

/** The address `/p/REPO/HASH/BUILDER`, which leads to the newest build of the cell. */
function address(cell: HTMLTableCellElement): string {
  const row = cell.closest("tr");
  const commit = row?.querySelector<HTMLAnchorElement>("th a")?.getAttribute("href") ?? "";
  return `${commit}/${encodeURIComponent(column(cell))}`;
}

function column(cell: HTMLTableCellElement): string {
  const head = cell.closest("table")?.tHead?.rows[2]?.cells[cell.cellIndex - 1]?.querySelector("a");
  return decodeURIComponent(head?.hash.slice(1) ?? "");
}

/** The focused cell. Only one cell at a time is in the order of the Tab key; arrows move it, also to a row's commit. */
class Cursor {
  readonly #table: HTMLTableElement;
  readonly #box: HTMLElement;
  #at: HTMLTableCellElement | undefined;

  constructor(box: HTMLElement, table: HTMLTableElement) {
    this.#box = box;
    this.#table = table;
    table.addEventListener("focusin", (event) => {
      const cell =
        event.target instanceof Element ? event.target.closest<HTMLTableCellElement>("tbody :is(td, th)") : null;
      if (cell) this.#at = cell;
    });
    box.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Runs `change`, which changes the rows, then puts the focus back on the same commit and builder. */
  keep(change: () => void): void {
    const cell = this.#at?.contains(document.activeElement) ? this.#at : undefined;
    const row = cell?.closest("tr")?.id;
    const at = cell?.cellIndex ?? 0;
    change();
    const again = row === undefined ? undefined : document.getElementById(row);
    if (again instanceof HTMLTableRowElement && !cell?.isConnected) this.#focus(again.cells[at]);
  }

  /** Lets the Tab key stop at one link of the rows: the focused one, or the first. */
  oneStop(body: HTMLTableSectionElement): void {
    const links = body.querySelectorAll<HTMLAnchorElement>("a");
    const inHand = this.#at?.isConnected ? this.#at.querySelector("a") : null;
    const stop = inHand ?? body.querySelector("td a") ?? links[0];
    for (const one of links) one.tabIndex = one === stop ? 0 : -1;
  }

  /** Moves the focus to the newest commit, below the row on top. */
  toNewest(): void {
    this.#focus(this.#table.tBodies[0]?.rows[1]?.cells[0]);
  }

  #key(event: KeyboardEvent): void {
    const moves: Readonly<Record<string, readonly [number, number]>> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const by = moves[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = this.#table.tBodies[0]?.rows;
    if (!rows) return;
    const row = this.#at?.isConnected ? [...rows].indexOf(this.#at.parentElement as HTMLTableRowElement) : -1;
    const column = this.#at?.isConnected ? this.#at.cellIndex : 1;
    if (by)
      this.#focus(
        rows[Math.max(0, Math.min(rows.length - 1, row < 0 ? 0 : row + by[0]))]?.cells[
          Math.max(0, row < 0 ? 1 : column + by[1])
        ],
      );
    else if (event.key === "Home") this.#focus(rows[Math.max(0, row)]?.cells[1]);
    else if (event.key === "End") this.#focus([...(rows[Math.max(0, row)]?.cells ?? [])].at(-1));
    else if (event.key === "Enter" && this.#at && document.activeElement === this.#at)
      location.assign(address(this.#at));
    else return;
    event.preventDefault();
  }

  #focus(cell: Element | undefined): void {
    if (!(cell instanceof HTMLTableCellElement)) return;
    for (const old of this.#table.tBodies[0]?.querySelectorAll<HTMLElement>("[tabindex='0']") ?? []) old.tabIndex = -1;
    this.#at = cell;
    const stop = cell.querySelector("a") ?? cell;
    stop.tabIndex = 0;
    stop.focus({ preventScroll: true });
    reveal(this.#box, cell);
  }
}

/** Scrolls so that neither the sticky head nor the sticky first column covers `cell`. */
function reveal(box: HTMLElement, cell: HTMLElement): void {
  const table = box.querySelector("table");
  const around = box.getBoundingClientRect();
  const at = cell.getBoundingClientRect();
  const top = around.top + (table?.tHead?.offsetHeight ?? 0);
  const left = around.left + (table?.querySelector<HTMLElement>("tbody th")?.offsetWidth ?? 0);
  if (at.top < top) box.scrollTop -= top - at.top;
  else if (at.bottom > around.bottom) box.scrollTop += at.bottom - around.bottom + 12;
  if (at.left < left) box.scrollLeft -= left - at.left;
  else if (at.right > around.right) box.scrollLeft += at.right - around.right + 12;
}

/** The card that says more about a cell: builder, outcome, duration, machine, and the last lines of a failure. */
class Card {
  readonly #card: HTMLElement;
  readonly #known = new Map<string, CellAnswer>();
  #wanted: HTMLTableCellElement | undefined;

  constructor(box: HTMLElement) {
    this.#card = document.createElement("div");
    this.#card.className = "card";
    this.#card.hidden = true;
    this.#card.setAttribute("role", "status");
    box.parentElement?.append(this.#card);
  }

  hide(): void {
    this.#wanted = undefined;
    this.#card.hidden = true;
  }

  async show(cell: HTMLTableCellElement): Promise<void> {
    if (this.#wanted === cell) return;
    this.hide();
    if (!cell.querySelector("a") || cell.closest("tr")?.id === "now") return;
    this.#wanted = cell;
    const href = address(cell);
    await new Promise((done) => setTimeout(done, 120)); // moving across cells asks for nothing
    if (this.#wanted !== cell) return;
    let answer = this.#known.get(href);
    if (!answer || answer.status === "running" || answer.status === "waiting") {
      const response = await fetch(`${href}?format=json`).catch(() => undefined);
      if (!response?.ok) return;
      answer = (await response.json()) as CellAnswer;
      this.#known.set(href, answer);
    }
    if (this.#wanted !== cell) return;
    this.#fill(answer);
    this.#place(cell);
  }

  #fill(answer: CellAnswer): void {
    const look = STATUS[answer.status];
    const facts = [
      answer.step === null ? "" : `in ${visible(answer.step)}`,
      answer.tookMs === null ? "" : durationText(answer.tookMs),
      answer.machine === null ? "" : `on ${visible(answer.machine)}`,
      answer.rebuildCanceled ? "rebuild canceled" : "",
      answer.reason === null ? "" : visible(answer.reason),
    ];
    const head = document.createElement("p");
    head.append(
      mark(look.css, look.glyph),
      ` ${visible(answer.builder)} ${look.word} `,
      facts.filter(Boolean).join(", "),
    );
    this.#card.replaceChildren(head);
    if (answer.last.length === 0) return;
    const lines = document.createElement("pre");
    lines.textContent = answer.last.map(visible).join("\n");
    this.#card.append(lines);
  }

  #place(cell: HTMLElement): void {
    this.#card.hidden = false;
    const at = cell.getBoundingClientRect();
    const card = this.#card.getBoundingClientRect();
    const below = at.bottom + 8 + card.height < innerHeight;
    this.#card.style.left = `${Math.max(8, Math.min(at.left, innerWidth - card.width - 8))}px`;
    this.#card.style.top = `${below ? at.bottom + 8 : at.top - card.height - 8}px`;
  }
}

function mark(css: string, glyph: string): HTMLElement {
  const span = document.createElement("span");
  span.className = css;
  span.textContent = glyph;
  return span;
}

/**
 * Replaces the dates in rows by ages, which readers want. Rows hold the date because they are kept by content. Both
 * take the same place.
 */
function times(body: HTMLTableSectionElement): void {
  const now = Date.now();
  for (const time of body.querySelectorAll("time")) {
    const at = Date.parse(time.dateTime);
    time.title = time.dateTime;
    const text = short(now - at);
    if (time.textContent !== text) time.textContent = text;
  }
}

function short(span: number): string {
  const minutes = Math.max(0, Math.floor(span / 60_000));
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h`;
  return `${Math.floor(minutes / 1440)} days`;
}
