import { expect, test } from "vitest";
import { type EpochMs, ms, plus, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { KEPT, RecentTopics } from "./recent-topics.ts";

function recent() {
  const clock = new FakeClock();
  let publish: (topic: string) => void = () => {};
  const bus = {
    publish: () => {},
    subscribe: (_: string, listener: (topic: string) => void) => {
      publish = listener;
    },
  };
  const topics = new RecentTopics(bus, clock, new AbortController().signal);
  return { clock, topics, publish: (topic: string) => publish(topic) };
}

const ASKED = ["build:1", "machine:", "queue:"];

test("since() tells what was published from then on, of a kind or by name, and nothing of before", async () => {
  const { clock, topics, publish } = recent();
  await clock.advance(seconds(10));
  publish("queue:a");
  await clock.advance(seconds(5));
  const asked = clock.now();
  expect(topics.since(ASKED, asked)).toEqual([]);
  publish("build:12");
  publish("machine:7");
  await clock.advance(seconds(20));
  expect(topics.since(ASKED, asked)).toEqual(["machine:"]);
  publish("build:1");
  expect(topics.since(ASKED, asked)).toEqual(["build:1", "machine:"]);
  expect(topics.since(ASKED, clock.now())).toEqual(["build:1"]);
});

test("since() tells all topics where it cannot know: from before it listened, of what it forgot, after the bus was away", async () => {
  const { clock, topics, publish } = recent();
  const began = clock.now();
  await clock.advance(seconds(10));
  expect(topics.since(ASKED, began)).toEqual(ASKED);
  const asked: EpochMs = clock.now();
  publish("queue:a");
  expect(topics.since(["build:1"], asked)).toEqual([]);
  await clock.advance(KEPT);
  publish("queue:b");
  expect(topics.since(["build:1"], asked)).toEqual(["build:1"]);
  expect(topics.since(["build:1"], plus(asked, seconds(20)))).toEqual([]);
  await clock.advance(seconds(30));
  const lost = clock.now();
  publish("");
  await clock.advance(ms(10));
  expect(topics.since(["build:1"], lost)).toEqual(["build:1"]);
});

test("what is remembered is bounded, and what had to go is not taken for unchanged", async () => {
  const { clock, topics, publish } = recent();
  await clock.advance(seconds(10));
  const asked = clock.now();
  for (let n = 0; n < 20_000; n++) publish(`build:${n}`);
  expect(topics.since(["build:1"], asked)).toEqual(["build:1"]);
});
