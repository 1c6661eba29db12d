/** Databases that fail as the test says. */
import { FarmError } from "../../farm/errors.ts";
import type { Sql } from "../../store/sql.ts";

/**
 * A database that is cut off at its `nth` statement from now: before the statement reaches the server, or after it, so
 * that only the answer is lost.
 */
export class CutSql implements Sql {
  readonly #sql: Sql;
  readonly #nth: number;
  readonly #after: boolean;
  #count = 0;

  constructor(sql: Sql, nth: number, after: boolean) {
    this.#sql = sql;
    this.#nth = nth;
    this.#after = after;
  }

  get cut(): boolean {
    return this.#count >= this.#nth;
  }

  async query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]> {
    return this.#through(() => this.#sql.query<Row>(text, params));
  }

  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#sql.tx((inner) =>
      work({
        query: <Row>(text: string, params?: readonly unknown[]) => this.#through(() => inner.query<Row>(text, params)),
        tx: (nested) => nested(inner),
      }),
    );
  }

  async #through<T>(call: () => Promise<T>): Promise<T> {
    if (this.cut) throw new Error("killed");
    this.#count++;
    if (!this.cut) return call();
    if (this.#after) await call();
    throw new Error("killed");
  }
}

/** A database that is away while the test says so. */
export class AwaySql implements Sql {
  away = false;
  /** How many calls it refused. */
  refused = 0;
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]> {
    this.#answer();
    return await this.#sql.query<Row>(text, params);
  }

  async tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    this.#answer();
    return await this.#sql.tx(work);
  }

  #answer(): void {
    if (!this.away) return;
    this.refused++;
    throw new FarmError("unavailable", "the database is away");
  }
}

/** A database whose answers to statements that contain `text` wait until the test calls `go`. */
export class SlowSql implements Sql {
  readonly #text: string;
  readonly #gate = Promise.withResolvers<void>();
  readonly #sql: Sql;
  /** How many answers have begun to wait. */
  waiting = 0;

  constructor(sql: Sql, text: string) {
    this.#sql = sql;
    this.#text = text;
  }

  go(): void {
    this.#gate.resolve();
  }

  async query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]> {
    const rows = await this.#sql.query<Row>(text, params);
    if (!text.includes(this.#text)) return rows;
    this.waiting++;
    await this.#gate.promise;
    return rows;
  }

  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#sql.tx(work);
  }
}

/**
 * A database that fails, while the test says so, for statements that contain one of `texts`, with an error that is no
 * FarmError.
 */
export class FailingSql implements Sql {
  fails = false;
  readonly #texts: readonly string[];
  readonly #sql: Sql;

  constructor(sql: Sql, texts: readonly string[]) {
    this.#sql = sql;
    this.#texts = texts;
  }

  query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]> {
    return this.#on<Row>(this.#sql, text, params);
  }

  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#sql.tx((inner) =>
      work({
        query: <Row>(text: string, params?: readonly unknown[]) => this.#on<Row>(inner, text, params),
        tx: (nested) => nested(inner),
      }),
    );
  }

  async #on<Row>(sql: Sql, text: string, params?: readonly unknown[]): Promise<Row[]> {
    if (this.fails && this.#texts.some((part) => text.includes(part))) throw new Error("no such file of the server");
    return await sql.query<Row>(text, params);
  }
}

/** A database that notes the statements that it receives, within transactions and outside of them. */
export class NotingSql implements Sql {
  readonly within: string[] = [];
  readonly outside: string[] = [];
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]> {
    this.outside.push(text);
    return this.#sql.query<Row>(text, params);
  }

  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#sql.tx((inner) =>
      work({
        query: <Row>(text: string, params?: readonly unknown[]) => {
          this.within.push(text);
          return inner.query<Row>(text, params);
        },
        tx: (nested) => nested(inner),
      }),
    );
  }
}
