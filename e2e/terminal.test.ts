/**
 * A shell in a real browser, on a real agent, at the coordinator that has the machine and at the other one: typing, the window's size, a paste, a
 * connection that is lost, whoever may not, and what was recorded.
 */
import { join } from "node:path";
import sparticuz from "@sparticuz/chromium";
import { chromium, type Page } from "playwright-core";
import { expect, test } from "vitest";
import { WebSocket as Client } from "ws";
import { picture, wrong } from "../src/web/testing/looks.ts";
import { Process, until } from "./testing/process.ts";
import { OUR_TYPE, SeveralCoordinators } from "./testing/several.ts";

const HOSTS = `[{ hostType: "${OUR_TYPE}", trust: "team" }]`;

async function tokenOf(farm: SeveralCoordinators, email: string): Promise<string> {
  const ask = async (...flags: string[]) => {
    const beside = ["-data", join(farm.folder, "coordinator-0"), "-secrets", join(farm.folder, "secrets")];
    await using program = Process.program("coordinator.js", [...beside, ...flags]);
    await program.exited;
    return program.output;
  };
  await ask("-add-user", email, "-roles", "member");
  const [token = ""] = /brt_[\w-]+/.exec(await ask("-new-token", email, "-name", "test")) ?? [];
  return token;
}

async function logIn(page: Page, at: string, token: string): Promise<string> {
  await page.goto(`${at}/login?back=/gomotes`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/gomotes");
  const cookies = await page.context().cookies();
  return cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
}

/** What a knock at the door of a shell is answered with. */
function knock(url: string, headers: Record<string, string>): Promise<number | "open"> {
  return new Promise((resolve) => {
    const socket = new Client(url.replace(/^http/, "ws"), { headers });
    socket.on("open", () => {
      resolve("open");
      socket.terminate();
    });
    socket.on("unexpected-response", (_, response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    socket.on("error", () => {});
  });
}

test("a shell in the browser, at either coordinator; nobody else's, no other site's; and its recording", {
  timeout: 240_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ coordinators: 2, builders: "[]", hosts: HOSTS });
  await using _machine = await farm.machine("m1");
  const [alice, bob] = [await tokenOf(farm, "alice@example.org"), await tokenOf(farm, "bob@example.org")];
  const executablePath = await sparticuz.executablePath();
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"], headless: true });
  try {
    const complaints: string[] = [];
    const checked = new Set<Page>(); // axe and pictures write styles of their own, which the policy of the pages refuses
    const flaws = (page: Page): Promise<string[]> => {
      checked.add(page);
      return wrong(page);
    };
    const open = async (width: number, colorScheme: "light" | "dark") => {
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        const theirs = checked.has(page) && message.text().startsWith("Applying inline style");
        if (message.type() === "error" && !theirs && !/status of 40|WebSocket connection/.test(message.text()))
          complaints.push(message.text());
      });
      await page.addInitScript(() => {
        const { WebSocket: Real } = window;
        const sockets: WebSocket[] = [];
        Object.assign(window, {
          sockets,
          WebSocket: class extends Real {
            constructor(url: string) {
              super(url);
              sockets.push(this);
            }
          },
        });
      });
      return page;
    };
    for (const [at, width, colorScheme] of [
      [0, 1280, "light"],
      [1, 390, "dark"],
    ] as const) {
      const pages = farm.running.get(at)?.http ?? "";
      const page = await open(width, colorScheme);
      const cookie = await logIn(page, pages, alice);
      if (at === 0) await page.getByRole("button", { name: "Borrow one" }).click();
      const name = `alice-${OUR_TYPE}-0`;
      await page.getByRole("link", { name }).click();
      const started = page.getByRole("button", { name: "Open a shell" });
      await started.click();
      await page.getByText("Connected.").waitFor();
      const shows = (text: string | RegExp) => page.locator(".shell .xterm-rows").getByText(text).first().waitFor();
      const type = async (text: string) => {
        await page.locator(".shell textarea").focus();
        await page.keyboard.type(`${text}\n`);
      };
      await type('echo "type"d');
      await shows(/^typed$/);
      await type("printf '\\033[48;2;1;2;3m\\033[38;2;90;200;30mcol''ours\\033[0m\\n'");
      await shows(/^colours$/);
      const colours = await page
        .locator(".shell .xterm-rows span")
        .getByText(/^colours$/)
        .evaluate((span) => [getComputedStyle(span).color, getComputedStyle(span).backgroundColor]);
      expect(colours).toEqual(["rgb(90, 200, 30)", "rgb(1, 2, 3)"]);
      await type('echo "$(stty size)" is the size');
      await shows(/^\d+ \d+ is the size/);
      const sizeOf = async () => {
        const rows = await page.locator(".shell .xterm-rows > div").allTextContents();
        return rows.flatMap((row) => /^(\d+ \d+) is the size/.exec(row)?.[1] ?? []);
      };
      const [before] = await sizeOf();
      await page.setViewportSize({ width: width + 200, height: 900 });
      await until(
        async () => {
          await type('clear; echo "$(stty size)" is the size');
          await shows(/^\d+ \d+ is the size/);
          const [now] = await sizeOf();
          return now !== undefined && now !== before;
        },
        20_000,
        () => `another size than ${before}`,
      );
      await page.setViewportSize({ width, height: 900 });

      // The keyboard finds its way out, and the colours are those of the page when these change.
      await page.locator(".shell textarea").focus();
      await page.keyboard.press("Control+F6");
      expect(await page.evaluate(() => document.activeElement?.textContent)).toMatch(/leaves the terminal/);
      const ground = () =>
        page.locator(".shell .xterm-scrollable-element").evaluate((screen) => getComputedStyle(screen).backgroundColor);
      const was = await ground();
      await page.emulateMedia({ colorScheme: colorScheme === "dark" ? "light" : "dark" });
      await until(
        async () => (await ground()) !== was,
        20_000,
        () => `another ground than ${was}`,
      );
      await page.emulateMedia({ colorScheme });

      // The connection is lost: the same shell goes on, and what it printed meanwhile is there.
      await type("mine=kept");
      await page.evaluate(() => (window as unknown as { sockets: WebSocket[] }).sockets.at(-1)?.close());
      await page.getByText("trying again").waitFor();
      await page.getByText("Connected.").waitFor();
      await type('clear; echo "still $mine"');
      await shows(/^still kept$/);

      const paste = (text = "echo on\\e\necho tw\\o\n") =>
        page.evaluate((pasted) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", pasted);
          const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
          document.querySelector(".shell textarea")?.dispatchEvent(event);
        }, text);

      // A long one arrives whole, also while its program does not read yet.
      await type(`stty raw -echo; echo wait""ing; sleep 1; echo "go""t $(head -c 200000 | wc -c)"; stty sane`);
      await shows(/^waiting$/);
      await paste("x".repeat(200_000));
      await shows(/got 200000/);

      // Several lines are shown before they are run.
      await paste();
      await page.getByRole("heading", { name: "Paste 3 lines?" }).waitFor();
      await page.getByRole("button", { name: "Cancel" }).click();
      await paste();
      await page.getByRole("button", { name: "Paste", exact: true }).click();
      await page.keyboard.press("Enter");
      await shows(/^two$/);
      expect(await flaws(page)).toEqual([]);
      await picture(page, `shell-${width}-${colorScheme}`);

      const door = `${pages}/gomotes/${name}/shell`;
      const { origin } = new URL(pages);
      expect(await knock(door, { cookie, origin })).toBe("open");
      expect(await knock(door, { cookie, origin: "http://elsewhere.example" })).toBe(403);
      expect(await knock(door, { cookie })).toBe(403);
      expect(await knock(door, { origin })).toBe(401);
      expect(await knock(door, { origin, authorization: `Bearer ${alice}` })).toBe(401);
      const other = await open(1280, "light");
      const hers = await logIn(other, pages, bob);
      expect(await knock(door, { cookie: hers, origin })).toBe(403);
      await other.context().close();

      await type("exit 3");
      await page.getByText("The shell has ended, with exit status 3.").first().waitFor();
      const plays = page.getByRole("button", { name: /^Play/ }); // the newest first; of the other page there are two
      await until(
        async () => {
          await page.reload();
          return (await plays.count()) > at * 2;
        },
        20_000,
        () => "the recording of what has just ended",
      );
      await plays.first().click();
      await page.getByLabel(/^Position in/).fill("3600");
      await page.locator(".played .xterm-rows").getByText(/^two$/).first().waitFor();
      expect(await flaws(page)).toEqual([]);
      await picture(page, `played-${width}-${colorScheme}`);
      await page.getByRole("button", { name: "Show files" }).click();
      await page.getByRole("heading", { name: "Files of" }).waitFor();
      await page
        .getByLabel("Upload files")
        .setInputFiles({ name: "hello.txt", mimeType: "text/plain", buffer: Buffer.from("hi") });
      await page.getByRole("row", { name: /hello.txt 2 / }).waitFor();
      expect(await flaws(page)).toEqual([]);
      await picture(page, `files-${width}-${colorScheme}`);
      const fetched = await fetch(`${pages}/gomotes/${name}/download?path=`, { headers: { cookie } });
      expect([fetched.status, [...new Uint8Array(await fetched.arrayBuffer()).subarray(0, 2)]]).toEqual([
        200,
        [0x1f, 0x8b],
      ]);
      const file = await fetch(`${pages}/gomotes/${name}/file?path=hello.txt`, { headers: { cookie } });
      expect([await file.text(), file.headers.get("content-disposition")]).toEqual([
        "hi",
        "attachment; filename*=UTF-8''hello.txt",
      ]);
      const sent = page.waitForEvent("download");
      await page.getByRole("link", { name: "hello.txt" }).click();
      expect((await sent).suggestedFilename()).toBe("hello.txt");
      await page.getByLabel("Tick hello.txt").check();
      await page.getByText("Delete what is ticked…").click();
      await page.getByRole("button", { name: "Delete it" }).click();
      await until(
        async () => (await page.getByLabel("Tick hello.txt").count()) === 0,
        20_000,
        () => "hello.txt gone from the list",
      );
      const gone = await fetch(`${pages}/gomotes/${name}/file?path=hello.txt`, { headers: { cookie } });
      expect([gone.status, await gone.text()]).toEqual([404, expect.stringContaining("There is no")]);
      await page.goto(`${pages}/gomotes/${name}`);
      if (at === 1) {
        await page.getByText("Destroy…").click();
        await page.getByRole("button", { name: "Destroy it" }).click();
        await page.getByText("You have no instance.").waitFor();
      } else {
        await page.getByRole("button", { name: "Open a shell" }).click();
        await page.getByText("Connected.").waitFor();
        await type("exit");
        await page.getByText("The shell has ended.").first().waitFor();
      }
      await page.context().close();
    }
    expect(complaints).toEqual([]);
  } finally {
    await browser.close();
  }
});
