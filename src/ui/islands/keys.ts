/**
 * Handles the keys of every page: `/` searches, `g` and a letter goes to a page, `j` and `k` move by rows, `n` goes to
 * the next failure, `?` lists the keys.
 */
export function keys(grid: string | undefined): void {
  const go: Readonly<Record<string, string>> = {
    h: "/",
    g: grid ?? "/",
    b: "/builders",
    m: "/machines",
    q: "/queues",
    o: "/gomotes",
    s: "/status",
  };
  let pending = false;
  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : undefined;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target?.closest("input, textarea, select, dialog")) {
      if (event.key === "Escape" && target instanceof HTMLElement) target.blur();
      return;
    }
    const first = pending;
    pending = false;
    const to = first ? go[event.key] : undefined;
    if (to !== undefined) location.assign(to);
    else if (event.key === "g") pending = true;
    else if (event.key === "/") document.querySelector<HTMLElement>("#search")?.focus();
    else if (event.key === "?") document.querySelector<HTMLDialogElement>("#keys")?.showModal();
    else if (event.key === "j") move(1, "[data-row]");
    else if (event.key === "k") move(-1, "[data-row]");
    else if (event.key === "n") move(1, "[data-row]:has(.mark.no), .grid td.no");
    else return;
    event.preventDefault();
  });
}

/** Moves the focus to the next or previous element that matches, from wherever it is. */
function move(by: 1 | -1, selector: string): void {
  const all = [...document.querySelectorAll<HTMLElement>(selector)];
  if (all.length === 0) return;
  const from = document.activeElement;
  const here = all.findIndex((one) => from !== null && one.contains(from));
  const after =
    here >= 0
      ? here + by
      : by > 0
        ? all.findIndex((one) => !!from && (from.compareDocumentPosition(one) & 4) !== 0 && from !== document.body)
        : all.length - 1;
  const next = all[here < 0 && after < 0 ? 0 : Math.max(0, Math.min(all.length - 1, after))];
  const stop = next?.matches("td")
    ? next
    : (next?.querySelector<HTMLElement>(".open a, a.open") ?? next?.querySelector<HTMLElement>("a"));
  if (stop?.matches("td")) stop.tabIndex = -1;
  stop?.focus();
  next?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
