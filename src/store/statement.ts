/**
 * SQL text with its values in place, so that nobody counts parameters: `where id = ${id}` is sent as `where id = $1`,
 * with the value beside it. A part of a statement is written in the same way, and brings its values along:
 *
 *   const live = part`live as (select id from attempt where id = ${attempt} for update)`;
 *   await sql.query(
 *     ...statement`with ${live} update step set status = ${status} from live where attempt_id = live.id`,
 *   );
 *
 * The text depends on the parts alone, never on a value, so it is prepared once per connection. A value that stands in
 * two places becomes two parameters, so each place must make the type clear.
 */

/** A part of a statement: its text, cut where the values go. Only `part` makes one. */
class Part {
  /** There is one text more than there are values. */
  readonly texts: readonly string[];
  readonly values: readonly unknown[];

  constructor(texts: readonly string[], values: readonly unknown[]) {
    this.texts = texts;
    this.values = values;
  }
}

export type { Part };

export function part(strings: TemplateStringsArray, ...given: readonly unknown[]): Part {
  const texts = [strings[0] ?? ""];
  const values: unknown[] = [];
  for (const [i, each] of given.entries()) {
    const [first = "", ...rest] = each instanceof Part ? each.texts : ["", ""];
    texts.push(texts.pop() + first, ...rest);
    values.push(...(each instanceof Part ? each.values : [each]));
    texts.push(texts.pop() + (strings[i + 1] ?? ""));
  }
  return new Part(texts, values);
}

/** The arguments for Sql.query(). */
export function statement(
  strings: TemplateStringsArray,
  ...given: readonly unknown[]
): [text: string, params: readonly unknown[]] {
  const { texts, values } = part(strings, ...given);
  return [texts.reduce((text, next, number) => `${text}$${number}${next}`), values];
}
