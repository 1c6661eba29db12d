/** A real browser on a farm of its own. Every page that it opens records its errors, and how far its parts moved. */
import sparticuz from "@sparticuz/chromium";
import { type BrowserContextOptions, chromium, type Page } from "playwright-core";
import type { WebDeps } from "../deps.ts";
import { buildAssets, type TestWeb, testWeb } from "./web.ts";

export interface TestBrowser extends AsyncDisposable {
  readonly web: TestWeb;
  /** The address of the farm. */
  readonly at: string;
  /** The errors that pages wrote to the console or threw. */
  readonly complaints: readonly string[];
  /** Opens a path. Resolves when the page is hydrated. */
  open(path: string, options?: BrowserContextOptions): Promise<Page & AsyncDisposable>;
}

export async function testBrowser(deps: Partial<WebDeps> = {}): Promise<TestBrowser> {
  await using stack = new AsyncDisposableStack();
  const web = stack.use(await testWeb({ assets: await buildAssets(), deps }));
  const executablePath = await sparticuz.executablePath();
  const args = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
  const browser = await chromium.launch({ executablePath, args, headless: true });
  stack.defer(() => browser.close());
  const at = await web.listen();
  const complaints: string[] = [];
  const moved = stack.move();
  return {
    web,
    at,
    complaints,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
    open: async (path, options = {}) => {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 900 },
        reducedMotion: "reduce",
        ...options,
      });
      const page = await context.newPage();
      page.setDefaultTimeout(10_000);
      page.on("pageerror", (error) => complaints.push(`${path}: ${error.message}`));
      page.on("console", (message) => {
        if (message.type() === "error" && !/status of 40[134]/.test(message.text()))
          complaints.push(`${path}: ${message.text()}`);
      });
      await page.addInitScript(() => {
        const shifts = Object.assign(window, { shifted: 0 });
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries())
            shifts.shifted += (entry as PerformanceEntry & { value: number }).value;
        }).observe({ type: "layout-shift", buffered: true });
      });
      await page.goto(at + path);
      if (options.javaScriptEnabled !== false) await page.waitForSelector("html[data-ready=yes]");
      return Object.assign(page, { [Symbol.asyncDispose]: () => context.close() });
    },
  };
}

/** How far the parts of a page have moved since it was opened. */
export function shifted(page: Page): Promise<number> {
  return page.evaluate(() => (window as unknown as { shifted: number }).shifted);
}
