/** Somebody in a real browser: logging in, their page and tokens, and letting a program in, on every width and in both themes. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { TOKEN_KEPT } from "../people/people.ts";
import { type TestBrowser, testBrowser } from "./testing/browser.ts";
import { picture, wrong } from "./testing/looks.ts";

let browser: TestBrowser;
let token: string;

beforeAll(async () => {
  browser = await testBrowser();
  const { people } = browser.web;
  const alice = await people.add(`alice${"-the-longer".repeat(8)}@example.org`, ["member", "operator"], "operator");
  ({ token } = await people.newToken(alice, "laptop", TOKEN_KEPT, "operator"));
  const old = await people.newToken(alice, `ci of <b>everything</b> ${"x".repeat(70)}`, TOKEN_KEPT, "operator");
  await people.revokeToken(old.id, alice, "alice");
}, 60_000);
afterAll(() => browser?.[Symbol.asyncDispose]());

for (const [width, colorScheme] of [
  [390, "light"],
  [1280, "dark"],
  [2560, "light"],
] as const)
  test(`a user logs in, makes and revokes a token, and lets a program in, ${width} px, ${colorScheme}`, async () => {
    const { web } = browser;
    await using page = await browser.open("/login?back=/me", {
      viewport: { width, height: 900 },
      colorScheme,
      bypassCSP: true,
      permissions: ["clipboard-read", "clipboard-write"],
    });
    const shot = (name: string) => picture(page, `${name}-${width}-${colorScheme}`);
    expect(await wrong(page)).toEqual([]);
    await shot("login");
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL("**/me");
    expect(await wrong(page)).toEqual([]);
    await page.getByLabel("Name").fill(`gomote, ${width}`);
    await page.getByRole("button", { name: "Make a token" }).click();
    await page.getByRole("button", { name: "Copy: the new token" }).click();
    await page.getByText("Copied").waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    expect((await web.people.identify(copied)).roles).toEqual(["operator", "member"]);
    await page.getByText("For the original gomote command", { exact: true }).click();
    expect(await wrong(page)).toEqual([]);
    await shot("me");
    await page
      .getByRole("row", { name: `gomote, ${width}` })
      .getByRole("button", { name: "Revoke" })
      .click();
    await page.waitForURL("**/me");
    await expect(web.people.identify(copied)).rejects.toThrow("was revoked");

    const asked = await fetch(`${browser.at}/device/code`, {
      method: "POST",
      body: new URLSearchParams({ client_id: "gomote", name: "laptop" }),
    });
    const { user_code } = (await asked.json()) as { user_code: string };
    await page.goto(`${browser.at}/device`);
    expect(await wrong(page)).toEqual([]);
    await page.getByLabel("Code").fill("BBBB-BBBB");
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText("Nothing asks with this code").waitFor();
    await page.getByLabel("Code").fill(user_code.toLowerCase());
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("heading", { name: "Let a program in?" }).waitFor();
    expect(await wrong(page)).toEqual([]);
    await shot("device");
    await page.getByRole("button", { name: "Allow" }).click();
    await page.getByRole("heading", { name: "It is let in" }).waitFor();

    await page.getByRole("link", { name: "People" }).click();
    expect(await wrong(page)).toEqual([]);
    await shot("people");
    const email = `user-${width}@example.org`;
    await page.getByLabel("Mail address", { exact: true }).fill(email);
    await page.getByRole("checkbox", { name: "team" }).check();
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await page.getByRole("heading", { name: email }).waitFor();
    expect((await web.people.find(email)).roles).toEqual(["team", "member"]);
    await page.getByText("Remove…").click();
    expect(await wrong(page)).toEqual([]);
    await shot("person");
    await page.getByRole("button", { name: `Remove ${email}` }).click();
    await page.waitForURL("**/people");
    await expect(web.people.find(email)).rejects.toThrow("Cannot find the user");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL(`${browser.at}/`);
    await page.getByRole("link", { name: "Log in" }).waitFor();
    expect(browser.complaints).toEqual([]);
  }, 60_000);
