/**
 * What the list command of a builder prints, as the names of tests.
 *
 * A line is a name. Spaces around it and a CR at its end do not belong to it, spaces inside it do. A line without
 * anything else is no name. A name that comes twice is one test.
 *
 * Names are passed on as arguments and lines. So a NUL, half a character or an endless line ends the reading with a
 * fault. The command prints something else than names then, and a guess would leave tests out without a word.
 *
 * A command that prints other things too, for example warnings, marks its names: `$BARNRAISER_MARK name NAME`. As soon
 * as one line does, only such lines are names, whatever else was printed before or comes after.
 *
 * A mark also counts behind output that did not end its line, since its test would be left out otherwise. It does not
 * count where a shell shows what it runs (`set -x`): there a quote or more of the command comes after the name.
 */
import { MOST_TEST_NAMES, testNameFault } from "../config/names.ts";

/** Longer lines are refused before they are read to their end. */
const LINE_LIMIT = 64 * 1024;
const LF = 10;
/** How a shell begins a line that shows what it runs. */
const SHOWN = /^\++ /;

export interface Listed {
  readonly names: readonly string[];
  /** How many lines named a test that an earlier line had. */
  readonly doubled: number;
}

export class TestNames {
  readonly #names = new Set<string>();
  #rest: Buffer = Buffer.alloc(0);
  #line = 0;
  #doubled = 0;
  #fault: string | undefined;
  /** What stands before a marked name. */
  readonly #prefix: Buffer;
  #marked = false;

  constructor(mark: string) {
    this.#prefix = Buffer.from(`${mark} name `);
  }

  push(chunk: Buffer): void {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let end = data.indexOf(LF); end >= 0; end = data.indexOf(LF)) {
      this.#take(data.subarray(0, end));
      data = data.subarray(end + 1);
    }
    this.#rest = data;
    if (data.length <= LINE_LIMIT) return;
    if (!this.#marked) this.#say(`line ${this.#line + 1} is longer than ${LINE_LIMIT} bytes`);
    const from = this.#prefixIn(data);
    // Enough to find the mark of a name, or to refuse the name at its end.
    this.#rest = from < 0 ? data.subarray(1 - this.#prefix.length) : data.subarray(from, from + LINE_LIMIT);
  }

  /** Ends the reading. A text says why the output is no list of names. */
  end(): Listed | string {
    if (this.#rest.length > 0) this.#take(this.#rest);
    if (this.#fault !== undefined) return this.#fault;
    if (this.#names.size === 0) return "it printed no names";
    return { names: [...this.#names], doubled: this.#doubled };
  }

  #take(line: Buffer): void {
    this.#line++;
    const from = this.#prefixIn(line);
    const marked = from >= 0;
    if (marked && !this.#marked) {
      this.#marked = true;
      this.#names.clear();
      this.#doubled = 0;
      this.#fault = undefined;
    }
    if (marked !== this.#marked || this.#fault !== undefined) return;
    const text = decoded(marked ? line.subarray(from + this.#prefix.length) : line);
    const name = text?.trim();
    if (name === "") return;
    const fault = name === undefined ? "want UTF-8" : testNameFault(name);
    if (name === undefined || fault !== undefined) this.#say(`line ${this.#line}: ${fault}`);
    else if (this.#names.has(name)) this.#doubled++;
    else if (this.#names.size === MOST_TEST_NAMES) this.#say(`it printed more than ${MOST_TEST_NAMES} names`);
    else this.#names.add(name);
  }

  /** Where the mark of a name begins; -1: nowhere. */
  #prefixIn(line: Buffer): number {
    return SHOWN.test(line.toString("latin1", 0, 8)) ? -1 : line.indexOf(this.#prefix);
  }

  /** Notes a fault. Only the first is told. The fault of a line without a mark is forgotten when marks come. */
  #say(fault: string): void {
    this.#fault ??= fault;
  }
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true });

function decoded(line: Buffer): string | undefined {
  try {
    return UTF_8.decode(line);
  } catch {
    return undefined;
  }
}
