import { expect, test } from "vitest";
import { epochMs } from "../farm/ids.ts";
import type { Queued } from "../store/queue-line.ts";
import { aheadOf, whyUnknown } from "./waits.ts";

const lease = (id: number, over: Partial<Queued> = {}): Queued => ({
  queue: "q",
  id,
  kind: "build",
  class: "post-submit",
  release: false,
  flow: "app",
  repo: "app",
  rank: 0,
  provenance: "submitted",
  starvesAt: epochMs(0),
  avoid: [],
  avoidUntil: null,
  wantedAt: epochMs(0),
  build: id,
  builder: "b",
  helps: null,
  helpsFrom: null,
  instance: null,
  instanceType: null,
  ...over,
});

test("aheadOf() counts everything before a build once: what starves, its own repository, the rest by class", () => {
  const line = [
    lease(1),
    lease(2, { class: "try", repo: "lib" }),
    lease(3),
    lease(4, { kind: "helper", repo: "lib", build: null }),
    lease(5, { repo: "lib" }),
    lease(6),
  ];
  expect(aheadOf(line, 5, ({ id }) => id === 1)).toEqual({
    starving: 1,
    same: 1,
    others: [
      { class: "try", count: 1 },
      { class: "post-submit helpers", count: 1 },
      { class: "post-submit", count: 1 },
    ],
    builds: [1, 2, 3],
  });
  expect(aheadOf(line, 0, () => false)).toEqual({ starving: 0, same: 0, others: [], builds: [] });
});

test("whyUnknown() names what is missing for an estimate", () => {
  const doubts = { drained: false, machines: 2, known: 2, aside: [], resting: 0, lent: false, untried: [] };
  const aside = [{ name: "shed-1", until: Date.UTC(2026, 0, 2, 15, 30), reason: "3 attempts in a row failed on it" }];
  expect([
    whyUnknown({ ...doubts, drained: true }),
    whyUnknown({ ...doubts, machines: 0, known: 0 }),
    whyUnknown({ ...doubts, machines: 0 }),
    whyUnknown({ ...doubts, machines: 0, known: 1 }),
    whyUnknown({ ...doubts, machines: 0, known: 1, resting: 1 }),
    whyUnknown({ ...doubts, machines: 0, known: 1, aside }),
    whyUnknown({ ...doubts, machines: 0, known: 4, aside, resting: 2 }),
    whyUnknown({ ...doubts, untried: ["linux", "linux"] }),
    whyUnknown({ ...doubts, untried: ["linux", "darwin", "linux"] }),
    whyUnknown(doubts),
    whyUnknown({ ...doubts, lent: true }),
  ]).toEqual([
    "drained",
    "no machine has ever connected",
    "no machine is connected (2 machines known)",
    "its only machine is not connected",
    "its only machine is drained",
    "its only machine shed-1 is set aside until 15:30 UTC: 3 attempts in a row failed on it",
    "no machine takes work: shed-1 set aside until 15:30 UTC, 2 drained, 1 not connected",
    "linux never ran before",
    "linux and 1 more never ran before",
    "nobody knows how long other work on its machines takes",
    "nobody knows how long people keep what is lent to them",
  ]);
});
