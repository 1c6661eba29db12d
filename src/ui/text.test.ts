import { expect, test } from "vitest";
import { bytes, escapeHtml, grouped, plural, subject, visible, visibleLines } from "./text.ts";
import { about, ago, atMost, limit, running } from "./time.ts";

test("visible() shows what would hide, and leaves right-to-left letters and emoji alone", () => {
  expect(visible("a\u202eb\u0000\tc\u2066")).toBe("a⟨U+202E⟩b␀ c⟨U+2066⟩");
  expect(visible("שלום 🚜")).toBe("שלום 🚜");
  expect(visibleLines("a\r\nb\tc\u0007")).toBe("a\nb\tc␇");
});

test("subject() is the first line, or says that there is none", () => {
  expect([subject("Fix it\n\nLonger"), subject("\n"), subject("")]).toEqual(["Fix it", "(no message)", "(no message)"]);
});

test("numbers, bytes and plurals", () => {
  expect([grouped(1234567), plural(1, "build"), plural(2, "match", "matches")]).toEqual([
    "1,234,567",
    "1 build",
    "2 matches",
  ]);
  expect([bytes(1), bytes(999), bytes(1500), bytes(2_000_000_000)]).toEqual([
    "1 byte",
    "999 bytes",
    "1.5 kB",
    "2.0 GB",
  ]);
});

test("escapeHtml() is safe in text and in quoted attributes", () => {
  expect(escapeHtml(`<a b="c" d='e'>&`)).toBe("&#60;a b=&#34;c&#34; d=&#39;e&#39;&#62;&#38;");
});

test("running() counts whole seconds", () => {
  expect([running(999), running(61_900)]).toEqual(["0 s", "1m 01s"]);
});

test("ago() and about() as people say them", () => {
  const back = (ms: number): string => ago(1_800_000_000_000 - ms, 1_800_000_000_000);
  expect([-1000, 4_000, 43_000, 240_000, 7_200_000, 90_000_000, 5 * 86_400_000, 40 * 86_400_000].map(back)).toEqual([
    "just now",
    "just now",
    "40 s ago",
    "4 min ago",
    "2 h ago",
    "yesterday",
    "5 days ago",
    "2026-12-06",
  ]);
  expect([-40_000, -200_000].map(back)).toEqual(["in about 40 s", "in about 3 min"]);
  expect([0, 31_000, 55_000, 61_000, 240_000].map(atMost)).toEqual([
    "up to 10 more seconds",
    "up to 40 more seconds",
    "up to 1 more minute",
    "up to 2 more minutes",
    "up to 4 more minutes",
  ]);
  expect([4_000, 44_000, 130_000, 3 * 3_600_000].map(about)).toEqual([
    "a few seconds",
    "about 40 s",
    "about 2 min",
    "about 3 h",
  ]);
});

test("limit() says what somebody set in its largest whole unit", () => {
  const minute = 60_000;
  expect([30 * minute, 60 * minute, 90 * minute, 12 * 60 * minute, 7 * 24 * 60 * minute, 90_500].map(limit)).toEqual([
    ...["30 minutes", "1 hour", "90 minutes", "12 hours", "7 days", "1m 31s"],
  ]);
});
