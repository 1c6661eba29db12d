/**
 * The HTML document around a page, rendered whole on the server. It holds the page's data for the script that keeps the
 * page up to date.
 */
import { h } from "preact";
import { renderToString } from "preact-render-to-string";
import { Footer, Keys, Lost, Top } from "../ui/frame.tsx";
import { NowContext, still } from "../ui/now.ts";
import { Body, type Envelope } from "../ui/page.tsx";
import { escapeHtml } from "../ui/text.ts";
import type { Assets } from "./deps.ts";

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M1 7l7-5 7 5v8H1z' fill='%230f766e'/%3E%3Cpath d='M5 15v-5h6v5M5 10l6 5M11 10l-6 5' stroke='%23fff' fill='none'/%3E%3C/svg%3E";

export function documentOf(envelope: Envelope, assets: Assets): string {
  const { frame } = envelope;
  const clock = still(frame.now);
  const part = (node: Parameters<typeof h>[2]): string =>
    renderToString(h(NowContext.Provider, { value: clock, children: node }));
  const theme = frame.theme === "system" ? "" : ` data-theme="${frame.theme}"`;
  return (
    `<!doctype html><html lang="en"${theme}><head><meta charset="utf-8"><title>${escapeHtml(frame.title)}</title>` +
    `<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">` +
    `<link rel="icon" href="${escapeHtml(ICON)}"><link rel="stylesheet" href="${assets.url("style.css")}">` +
    `<script type="module" src="${assets.url("farm.js")}"></script></head><body class="page-${envelope.page.name}">` +
    `<a class="skip" href="#main">Skip to content</a>` +
    `<div id="top">${part(<Top frame={frame} />)}</div><main id="main" tabindex="-1">${part(<Body envelope={envelope} />)}</main>` +
    `<div id="foot">${part(<Footer frame={frame} />)}</div>${renderToString(<Keys />)}${renderToString(<Lost />)}` +
    `<script type="application/json" id="data">${inScript(startOf(envelope))}</script></body></html>`
  );
}

/**
 * The page's data without the grid's. The grid's HTML is in the page already and is not hydrated, so its data would be
 * sent twice.
 */
function startOf(envelope: Envelope): Envelope {
  const { page } = envelope;
  return page.name === "grid" ? { ...envelope, page: { name: "grid", data: { ...page.data, html: "" } } } : envelope;
}

/**
 * JSON for a script element. It cannot end the element, begin a comment, or turn the direction of text for a reader of
 * the source.
 */
function inScript(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
