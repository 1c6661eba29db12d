import { expect, test } from "vitest";
import { epochMs, type Ms } from "../farm/ids.ts";
import { clean, overMessage, spanText, troubleMessage } from "./message.ts";
import type { Trouble } from "./trouble.ts";

const since = epochMs(Date.UTC(2026, 10, 25, 2, 10));
const place = { farm: "Example", url: "https://farm.example.org" };
const pinecone: Trouble = {
  kind: "missing",
  subject: "machine:7",
  since,
  about: { hostType: "host-linux-riscv64-lent", name: "pinecone", detail: "missed 2 keep-alives" },
};

test("a message says what happened, since when, what to do and where to look", () => {
  const message = troubleMessage([pinecone], place);
  expect(message.title).toBe("[Example] pinecone is missing");
  expect(message.text).toBe(
    [
      "pinecone (host-linux-riscv64-lent) has been missing since 2026-11-25 02:10 UTC: missed 2 keep-alives.",
      "https://farm.example.org/machines/pinecone?type=host-linux-riscv64-lent",
      "",
      "Does the machine have power and network, and does its buildlet run? It is taken back by itself once it dials in. If it is away on purpose, ask the operator to drain it.",
      "",
    ].join("\n"),
  );
  const back = overMessage([{ trouble: pinecone, at: epochMs(since + 3 * 3_600_000) }], { ...place, url: null });
  expect(back).toMatchObject({
    event: "over",
    title: "[Example] pinecone is back",
    text: "pinecone (host-linux-riscv64-lent) is back after 3 h.\n",
  });
});

test("many machines are one message with a list that ends", () => {
  const many = Array.from({ length: 100 }, (_, id) => ({ ...pinecone, subject: `machine:${id}` }));
  const message = troubleMessage(many, place);
  expect(message.title).toBe("[Example] 100 machines are missing");
  expect(message.items.length).toBe(100);
  expect(message.text.match(/has been missing/g)?.length).toBe(30);
  expect(message.text).toContain("and 70 more: https://farm.example.org/status");
});

test("every kind of trouble has its words, at both ends", () => {
  const kinds = ["missing", "short", "set-aside", "repo", "key", "config"] as const;
  const texts = kinds.flatMap((kind) => {
    const trouble = { ...pinecone, kind };
    return [troubleMessage([trouble], place), overMessage([{ trouble, at: since }], place)].map(({ title }) => title);
  });
  expect(texts.map((title) => title.slice("[Example] ".length))).toEqual([
    "pinecone is missing",
    "pinecone is back",
    "pinecone has too few machines",
    "pinecone is complete",
    "pinecone is set aside",
    "pinecone is well again",
    "pinecone cannot be fetched",
    "pinecone can be fetched again",
    "the key of pinecone expires soon",
    "the key of pinecone expires soon",
    "the changed configuration cannot be used",
    "the configuration is in force",
  ]);
  const two = troubleMessage([pinecone, { ...pinecone, kind: "repo" }], place);
  expect(two.title).toBe("[Example] 2 things need a look");
});

test("a name ends no line and turns no text around", () => {
  const evil = "pine\r\nBcc: x@example.org\u202econe\u0000<b>";
  const { title, text } = troubleMessage([{ ...pinecone, about: { ...pinecone.about, name: evil } }], place);
  expect(title).toBe("[Example] pine Bcc: x@example.orgcone <b> is missing");
  expect(text.split("\n")[0]).toContain("pine Bcc: x@example.orgcone <b> (host");
  expect(clean("x".repeat(500)).length).toBe(200);
});

test("spans are said as people say them", () => {
  expect([400, 40_000, 720_000, 3 * 3_600_000, 50 * 3_600_000].map((span) => spanText(span as Ms))).toEqual([
    "1 s",
    "40 s",
    "12 min",
    "3 h",
    "2 days",
  ]);
});
