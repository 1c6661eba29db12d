import { Hono } from "hono";
import { expect, test } from "vitest";
import type { FarmConfig } from "../config/effective.ts";
import type { Env } from "./http.ts";
import { reachedAt } from "./reached.ts";

test("reachedAt() is the address that the browser used, and never the one that is listened at", async () => {
  const asked = async (url: string, publicUrl: string | null = null) => {
    const app = new Hono<Env>();
    const deps = { config: () => ({ publicUrl }) as FarmConfig, dialAddress: () => "127.0.0.1:8119" };
    app.get("/", (c) => c.text(reachedAt(c, deps)));
    const headers = { "x-forwarded-host": "elsewhere.example" };
    return await (await app.fetch(new Request(url, { headers }))).text();
  };
  const publicUrl = "https://farm.example.org/";
  expect([await asked("http://localhost:8118/"), await asked("http://[::1]:8118/")]).toEqual([
    "localhost:8119",
    "[::1]:8119",
  ]);
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
