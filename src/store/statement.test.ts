import { expect, test } from "vitest";
import { part, statement } from "./statement.ts";

test("values become parameters in the order in which they stand, those of parts among them", () => {
  const inner = part`(select ${"a"}, ${"b"})`;
  const outer = part`with x as ${inner}${part`, y as (select)`}`;
  expect(statement`${outer} select ${"c"}::text, ${inner} from x`).toEqual([
    "with x as (select $1, $2), y as (select) select $3::text, (select $4, $5) from x",
    ["a", "b", "c", "a", "b"],
  ]);
  expect(statement`select`).toEqual(["select", []]);
});

test("the text is the same whatever the values, also when one is a text that looks like SQL", () => {
  const texts = [null, undefined, "'; drop table build; --", 7].map(
    (value) => statement`select ${part`f(${value})`}`[0],
  );
  expect(new Set(texts)).toEqual(new Set(["select f($1)"]));
});
