import { expect, test } from "vitest";
import { buildId, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { TestsNews } from "./tests-news.ts";

class LocalBus {
  readonly #listeners: { prefix: string; listener: (topic: string) => void; signal: AbortSignal }[] = [];

  subscribe(prefix: string, listener: (topic: string) => void, signal: AbortSignal): void {
    this.#listeners.push({ prefix, listener, signal });
  }

  publish(topic: string): void {
    for (const { prefix, listener, signal } of this.#listeners) {
      if (topic.startsWith(prefix) && !signal.aborted) listener(topic);
    }
  }
}

/** Which of `topics`, each published between forget() and wait(), end that wait at once. */
async function heardOf(topics: readonly string[]): Promise<string[]> {
  const clock = new FakeClock();
  const bus = new LocalBus();
  using news = new TestsNews({ clock, bus }, buildId(7));
  const heard: string[] = [];
  for (const topic of topics) {
    news.forget();
    bus.publish(topic);
    const wait = news.wait(seconds(5), new AbortController().signal);
    await new Promise(setImmediate);
    if (clock.sleeping === 0) heard.push(topic);
    await clock.advance(seconds(5));
    await wait;
  }
  return heard;
}

test("news between forget() and wait() is not lost: of this build, and what the bus says when it may have lost some", async () => {
  const topics = ["tests:7", "tests:77", "tests:8", "tests:", "tests-over:7", "build:7"];
  expect(await heardOf(topics)).toEqual(["tests:7", "tests:"]);
});

test("wait() ends with news that comes meanwhile, and not with news that was forgotten", async () => {
  const clock = new FakeClock();
  const bus = new LocalBus();
  using news = new TestsNews({ clock, bus }, buildId(7));
  bus.publish("tests:7");
  news.forget();
  const wait = news.wait(seconds(5), new AbortController().signal);
  await new Promise(setImmediate);
  expect(clock.sleeping).toBe(1);
  bus.publish("tests:7");
  await wait;
  expect(clock.sleeping).toBe(0);
});

test("wait() rejects with the reason of its signal, even when there has been news", async () => {
  const clock = new FakeClock();
  const bus = new LocalBus();
  using news = new TestsNews({ clock, bus }, buildId(7));
  const stop = new AbortController();
  const wait = news.wait(seconds(5), stop.signal);
  stop.abort(new Error("the machine is gone"));
  await expect(wait).rejects.toThrow("the machine is gone");
  bus.publish("tests:7");
  await expect(news.wait(seconds(5), stop.signal)).rejects.toThrow("the machine is gone");
});

test("`over` aborts when somebody ended the tests of this build, and not once the news is disposed of", () => {
  const bus = new LocalBus();
  const clock = new FakeClock();
  using news = new TestsNews({ clock, bus }, buildId(7));
  bus.publish("tests-over:77");
  expect(news.over.aborted).toBe(false);
  bus.publish("tests-over:7");
  expect(news.over.reason).toMatchObject({ code: "canceled", message: "others have ended the tests" });
  const disposed = new TestsNews({ clock, bus }, buildId(7));
  disposed[Symbol.dispose]();
  bus.publish("tests-over:7");
  expect(disposed.over.aborted).toBe(false);
});
