import { expect, test } from "vitest";
import { atLeast, atMost, figureOf, formatFigure, isReached, median, percentile } from "./figure.ts";

test("figureOf() and formatFigure() give the median over the runs, the spread and the goal on one line", () => {
  const figure = figureOf({
    bench: "dispatch",
    figure: "p50",
    unit: "ms",
    values: [7.9, 7.1234, 6.8, 7.2, 7.0],
    goal: atMost(15),
  });
  expect(formatFigure(figure)).toBe(
    '{"bench":"dispatch","figure":"p50","unit":"ms","value":7.12,"spread":[6.8,7.9],"runs":5,"goal":15}',
  );
});

test("formatFigure() leaves out a goal that is not there", () => {
  const figure = figureOf({ bench: "agent", figure: "buildlet-size", unit: "KB", values: [123.456] });
  expect(formatFigure(figure)).toBe(
    '{"bench":"agent","figure":"buildlet-size","unit":"KB","value":123,"spread":[123,123],"runs":1}',
  );
});

test("figureOf() refuses a figure without runs, or with one that measured nothing", () => {
  const measured = (values: number[]) => () => figureOf({ bench: "log", figure: "ratio", unit: "", values });
  expect(measured([])).toThrow("Cannot sum up log ratio: the runs gave []");
  expect(measured([1, Number.NaN])).toThrow("Cannot sum up log ratio: the runs gave [1, NaN]");
});

test("isReached() takes a goal as the ceiling or the floor that it is", () => {
  const reached = (value: number, goal?: ReturnType<typeof atMost>) =>
    isReached(figureOf({ bench: "b", figure: "f", unit: "", values: [value], ...(goal && { goal }) }));
  expect([
    reached(15, atMost(15)),
    reached(15.1, atMost(15)),
    reached(0.6, atLeast(0.6)),
    reached(0.59, atLeast(0.6)),
    reached(1),
  ]).toEqual([true, false, true, false, undefined]);
});

test("percentile() and median() interpolate between neighbours, in any order", () => {
  const hundred = Array.from({ length: 101 }, (_, at) => 100 - at);
  expect([
    median([3]),
    median([4, 1]),
    median([9, 1, 5]),
    percentile(hundred, 99),
    percentile([1, 2], 75),
    percentile(hundred, 0),
    percentile(hundred, 100),
    median([]),
  ]).toEqual([3, 2.5, 5, 99, 1.75, 0, 100, Number.NaN]);
});
