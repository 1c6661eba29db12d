import { expect, test } from "vitest";
import { ROW, ScrollMap } from "./scroll-map.ts";

function map(lines: number): ScrollMap {
  const made = new ScrollMap(lines);
  made.resize(lines, 600);
  return made;
}

test("a short log scrolls pixel by pixel", () => {
  const m = map(1000);
  m.moved(30);
  expect([m.height, m.top, m.goTo(1e9), m.top, m.atEnd]).toEqual([20_000, 1.5, 19_400, 970, true]);
});

test("a log of ten million lines: the bar reaches every part, the wheel still goes line by line", () => {
  const m = map(10_000_000);
  expect(m.height).toBe(8_000_000);
  m.moved(4_000_000);
  const middle = m.top;
  expect(Math.abs(middle - 5_000_000)).toBeLessThan(1000);
  m.moved(4_000_000 + 3 * ROW);
  expect(m.top).toBeCloseTo(middle + 3, 5);
  m.moved(m.height - 600);
  expect([m.top, m.atEnd]).toEqual([m.last, true]);
  m.goTo(1_234_567);
  m.moved(m.bar());
  expect(m.top).toBe(1_234_567);
});

test("a log that grows keeps what is shown; one that fits does not scroll", () => {
  const m = map(100);
  m.goTo(40);
  m.resize(5000, 600);
  expect(m.top).toBe(40);
  m.resize(10, 600);
  expect([m.top, m.last, m.bar()]).toEqual([0, 0, 0]);
});
