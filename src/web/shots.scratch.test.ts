import chromium from "@sparticuz/chromium";
import { chromium as playwright } from "playwright-core";
import { test } from "vitest";
import { buildAssets, TOKEN, testWeb } from "./testing/web.ts";

test("screenshots", async () => {
  await using web = await testWeb({ assets: await buildAssets() });
  web.checks.push(
    { id: "mirror", title: "mirror of app", lines: [] },
    {
      id: "pinecone",
      title: "machine pinecone",
      notes: "https://example.org/x",
      lines: [{ level: "warn", text: "missing for 3 hours" }],
    },
  );
  const at = await web.listen();
  const browser = await playwright.launch({
    executablePath: await chromium.executablePath(),
    args: ["--no-sandbox", "--hide-scrollbars", "--disable-gpu"],
    headless: true,
  });
  const s = web.seeded;
  const paths: Record<string, string> = {
    home: "/",
    grid: "/p/app",
    failed: `/b/${s.failed}`,
    running: `/b/${s.running}`,
    waiting: `/b/${s.waiting}`,
    machines: "/machines",
    machine: "/machines/riverboard",
    queues: "/queues",
    builders: "/builders",
    commit: `/p/app/${s.hashes[1]}`,
    search: "/search?q=parser",
    missing: "/nope",
    login: "/login",
  };
  const only = (process.env["ONLY"] ?? "").split(",").filter(Boolean);
  const sizes = (process.env["SIZES"] ?? "1280").split(",").map(Number);
  for (const scheme of (process.env["SCHEMES"] ?? "light").split(",") as ("light" | "dark")[])
    for (const width of sizes) {
      const context = await browser.newContext({
        viewport: { width, height: width < 500 ? 844 : 900 },
        colorScheme: scheme,
      });
      const page = await context.newPage();
      page.on("console", (m) => console.log(m.type(), m.text()));
      page.on("pageerror", (e) => console.log("ERR", e.message));
      if (process.env["LOGIN"]) {
        await page.goto(`${at}/login`);
        await page.fill("[name=token]", TOKEN);
        await page.click(".login button");
      }
      for (const [name, path] of Object.entries(paths)) {
        if (only.length && !only.includes(name)) continue;
        await page.goto(at + path);
        await page
          .waitForSelector("html[data-ready=yes]", { timeout: 5000 })
          .catch(() => console.log("not ready", name));
        await page.waitForTimeout(400);
        const w = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        if (w[0]! > w[1]!) console.log("WIDE", name, width, w);
        await page.screenshot({ path: `/tmp/shots/${name}-${width}-${scheme}.png` });
      }
      await context.close();
    }
  await browser.close();
}, 120_000);
