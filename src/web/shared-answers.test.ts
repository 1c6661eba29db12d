import { expect, test } from "vitest";
import { ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { HOLD, SharedAnswers } from "./shared-answers.ts";

test("SharedAnswers makes an answer once for all who ask, anew after a word on its topic, after HOLD and after a failure", async () => {
  const clock = new FakeClock();
  let publish = (_topic: string): void => {};
  const bus = {
    publish() {},
    subscribe(_prefix: string, listener: (topic: string) => void) {
      publish = listener;
    },
  };
  const shared = new SharedAnswers<string>(bus, clock, "log:", new AbortController().signal);
  let made = 0;
  const ask = (topic = "log:1", question = "lines") => shared.get(topic, question, async () => `${topic} ${++made}`);
  const failing = () => shared.get("log:9", "lines", () => Promise.reject(new Error(`no ${++made}`)));

  expect(await Promise.all([ask(), ask(), ask("log:2"), ask("log:1", "other")])).toEqual([
    "log:1 1",
    "log:1 1",
    "log:2 2",
    "log:1 3",
  ]);
  publish("log:1");
  expect([await ask(), await ask("log:2")]).toEqual(["log:1 4", "log:2 2"]);
  await clock.advance(ms(HOLD - 1));
  expect(await ask()).toBe("log:1 4");
  await clock.advance(ms(1));
  expect(await ask()).toBe("log:1 5");
  publish("log:");
  expect(await ask("log:2")).toBe("log:2 6");
  await expect(failing()).rejects.toThrow("no 7");
  await expect(failing()).rejects.toThrow("no 8");
});

test("SharedAnswers does not hand an answer begun before a word to who asks after it", async () => {
  let publish = (_topic: string): void => {};
  const bus = {
    publish() {},
    subscribe(_prefix: string, listener: (topic: string) => void) {
      publish = listener;
    },
  };
  const clock = new FakeClock();
  const shared = new SharedAnswers<string>(bus, clock, "log:", new AbortController().signal);
  const slow = Promise.withResolvers<string>();
  const before = shared.get("log:1", "lines", () => slow.promise);
  publish("log:1");
  const after = shared.get("log:1", "lines", async () => "new");
  slow.resolve("old");
  expect([await before, await after, await shared.get("log:1", "lines", async () => "newer")]).toEqual([
    "old",
    "new",
    "new",
  ]);
});
