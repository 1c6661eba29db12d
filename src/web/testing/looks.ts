/** How a page looks, for tests in a browser. */
import { mkdir } from "node:fs/promises";
import axe from "axe-core";
import type { Page } from "playwright-core";

/** The faults that axe finds, and one more when the page is wider than the screen. */
export async function wrong(page: Page): Promise<string[]> {
  await page.waitForSelector("html[data-ready=yes]");
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> };
    };
    const { violations } = await axe.run();
    const found = violations.map((v) => `${v.id}: ${v.nodes[0]?.html.slice(0, 200)} ${v.nodes[0]?.failureSummary}`);
    return document.documentElement.scrollWidth <= innerWidth ? found : [...found, "too wide"];
  });
}

/** Takes a picture for people to look at, in the folder that PICTURES names, if it is set. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.PICTURES;
  if (folder === undefined) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}
