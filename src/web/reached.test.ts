import { Hono } from "hono";
import { expect, test } from "vitest";
import type { FarmConfig } from "../config/effective.ts";
import type { MadeToken } from "../people/people.ts";
import type { Env } from "./http.ts";
import { setupOf } from "./me-routes.ts";
import { reachedAt } from "./reached.ts";

test("reachedAt() is the address that the browser used, or one that leads to the same farm", async () => {
  const asked = async (url: string, publicUrl: string | null = null, listening = "127.0.0.1:8119") => {
    const app = new Hono<Env>();
    const deps = { config: () => ({ publicUrl }) as FarmConfig, dialAddress: () => listening };
    app.get("/", (c) => c.text(reachedAt(c, deps)));
    const headers = { "x-forwarded-host": "elsewhere.example" };
    return await (await app.fetch(new Request(url, { headers }))).text();
  };
  const publicUrl = "https://farm.example.org/";
  expect([await asked("http://localhost:8118/"), await asked("http://[::1]:8118/")]).toEqual([
    "localhost:8119",
    "[::1]:8119",
  ]);
  // Nothing listens at localhost, or there is more than localhost.
  const atHome = async (listening: string) => await asked("http://localhost:8118/", null, listening);
  expect(await atHome("farm.example.org:8119")).toBe("farm.example.org:8119");
  expect(await atHome("[fd00::7]:8119")).toBe("[fd00::7]:8119");
  expect([await atHome("0.0.0.0:8119"), await atHome("[::]:8119")]).toEqual(["localhost:8119", "localhost:8119"]);
  expect(await asked("http://localhost:8118/", publicUrl, "10.0.0.5:8119")).toBe("farm.example.org:8119");
  // A proxy that tells us the name that it was asked by, and one that does not.
  expect(await asked("http://farm.test/", publicUrl)).toBe("farm.test:8119");
  expect([await asked("http://127.0.0.1:8118/", publicUrl), await asked("http://[::1]:8118/", publicUrl)]).toEqual([
    "farm.example.org:8119",
    "farm.example.org:8119",
  ]);
  // TLS ends here, whatever port leads to ours.
  expect([await asked("https://10.0.0.7:8119/", publicUrl), await asked("https://farm.test/", publicUrl)]).toEqual([
    "10.0.0.7:8119",
    "farm.test:443",
  ]);
});

test("the tunnel of the original command goes to the computer that the browser reached, and there to the farm's own ports", async () => {
  const tunnel = async (url: string, publicUrl: string | null = null) => {
    const app = new Hono<Env>();
    const config = () => ({ publicUrl }) as FarmConfig;
    const deps = { config, dialAddress: () => "localhost:8119", httpPort: () => 8118, sshPort: () => undefined };
    const made = { person: { name: "alice" }, token: "brt_1" } as MadeToken;
    app.get("/", (c) => c.text(setupOf(c, deps, made)));
    return /ssh -N -L 8119:localhost:8119 -L 8118:localhost:8118 (.*)/.exec(
      await (await app.fetch(new Request(url))).text(),
    )?.[1];
  };
  expect(await tunnel("http://farm.test:8118/")).toBe("farm.test");
  expect(await tunnel("https://farm.test/")).toBe("farm.test");
  expect(await tunnel("https://[fd00::7]:8119/")).toBe("fd00::7");
  expect(await tunnel("http://localhost:8118/", "https://farm.example.org/")).toBe("farm.example.org");
  expect(await tunnel("http://127.0.0.1:8118/")).toBe("THE-COORDINATORS-COMPUTER");
});
