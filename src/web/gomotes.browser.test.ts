/** Machines that people borrow, in a real browser: what was run on one, and its files without script, on every width and in both themes. */
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { HeldInstance } from "../gomote/holdings.ts";
import type { BuildletClient } from "../machines/machine-session.ts";
import { commandBegan, commandEnded } from "../store/gomote-commands.ts";
import { systemClock } from "../store/system-clock.ts";
import { type TestBrowser, testBrowser } from "./testing/browser.ts";
import { type Lent, lend } from "./testing/lent.ts";
import { picture, wrong } from "./testing/looks.ts";
import { lending } from "./testing/web.ts";

const SIZES = [
  [390, "light"],
  [390, "dark"],
  [1280, "light"],
  [1280, "dark"],
] as const;

let browser: TestBrowser;
let lent: Lent;
const written = new Map<string, string>();

beforeAll(async () => {
  const client: Partial<BuildletClient> = {
    readLs: async () =>
      Readable.from([Buffer.from("drwxr-xr-x\tgo/\n-rw-r--r--\tnotes.txt\t1200\t2026-11-25T10:00:00Z\n")]),
    writeFile: async (path, _mode, body) => void written.set(path, await text(body as Readable)),
  };
  const nothing = lending([]);
  const held = async (_: unknown, name: string) =>
    ({
      instance: { id: lent.id, name, workingDir: "/work" },
      machine: { client },
      over: new AbortController().signal,
    }) as unknown as HeldInstance;
  browser = await testBrowser({ lending: { ...nothing, instances: { ...nothing.instances, held } } });
  lent = await lend(browser.web);
}, 60_000);
afterAll(() => browser?.[Symbol.asyncDispose]());

/** As whoever has the token. */
function open(path: string, token: string, options: BrowserContextOptions): Promise<Page & AsyncDisposable> {
  return browser.open(path, { ...options, extraHTTPHeaders: { authorization: `Bearer ${token}` } });
}

for (const [width, colorScheme] of SIZES)
  test(`the owner of a machine comes from its page to all words of what was run there, ${width} px, ${colorScheme}`, async () => {
    const { id, coordinator, alice } = lent;
    const command = `sh -c set -e\nfor each in 1 2 3; do\n\techo "<b>$each</b>" ${"x".repeat(400)}\ndone ${"long ".repeat(20_000)}`;
    const number = await commandBegan(
      browser.web.database.sql,
      { instance: id, coordinator, who: alice.email, command, dir: "go/src" },
      systemClock.now(),
    );
    const options = { viewport: { width, height: 900 }, colorScheme, bypassCSP: true };
    await using page = await open(`/machines/${lent.machine}`, lent.tokens.keeper, options);
    expect(await wrong(page)).toEqual([]);
    await picture(page, `machine-${width}-${colorScheme}`);
    await page.locator(`a[href="/gomotes/${id}/commands/${number}"]`).click();
    await page.getByRole("heading", { name: `Command ${number} on` }).waitFor();
    await page.waitForSelector("html[data-ready=yes]");
    expect(await wrong(page)).toEqual([]);
    expect(await page.locator("pre.command").textContent()).toContain('\n\techo "<b>$each</b>" xxx');
    await page.getByText(/the farm keeps the first 64 KiB of 98\.\d KiB/).waitFor();
    await picture(page, `command-${width}-${colorScheme}`);
    expect(browser.complaints).toEqual([]);
  }, 60_000);

for (const [width, colorScheme] of SIZES)
  test(`without script a file is uploaded by a form, ${width} px, ${colorScheme}`, async () => {
    written.clear();
    const options = { viewport: { width, height: 900 }, colorScheme, javaScriptEnabled: false };
    await using page = await open(`/gomotes/${lent.name}/files?path=go`, lent.tokens.alice, options);
    await picture(page, `files-${width}-${colorScheme}`);
    await expect.poll(() => page.getByLabel("Upload files").isVisible()).toBe(false);
    await page
      .getByLabel("Upload a file")
      .setInputFiles({ name: "a b.txt", mimeType: "text/plain", buffer: Buffer.from("by hand") });
    await page.getByRole("button", { name: "Upload", exact: true }).click();
    await expect.poll(() => Object.fromEntries(written)).toEqual({ "go/a b.txt": "by hand" });
    await page.getByRole("heading", { name: "Files of" }).waitFor();
    expect(new URL(page.url()).search).toBe("?path=go");
  }, 60_000);

for (const [width, colorScheme] of SIZES)
  test(`how a command ended takes lines, not the room of the command, ${width} px, ${colorScheme}`, async () => {
    const { id, name, coordinator, alice, tokens } = lent;
    const { sql } = browser.web.database;
    const began = { instance: id, coordinator, who: alice.email, command: "nosuch", dir: "" };
    const state = `Cannot run "nosuch": ${"executable file not found in $PATH, ".repeat(3)}${"x".repeat(120)}`;
    await commandEnded(sql, await commandBegan(sql, began, systemClock.now()), state, systemClock.now());
    const options = { viewport: { width, height: 900 }, colorScheme, bypassCSP: true };
    await using page = await open(`/gomotes/${name}`, tokens.alice, options);
    expect(await wrong(page)).toEqual([]);
    await picture(page, `instance-${width}-${colorScheme}`);
    const row = page.locator("tr[data-row]").filter({ hasText: "not found in $PATH" }).first();
    const [command, ended, when] = await Promise.all(
      [".runs", "[data-label=Ended]", ".when"].map((c) => row.locator(c).boundingBox()),
    );
    expect((when?.x ?? width) + (when?.width ?? 0)).toBeLessThan(width);
    if (width > 800) expect(command?.width).toBeGreaterThan(1.5 * (ended?.width ?? width));
  });
