/**
 * `go test -json`: one event per line, as `go doc test2json` has them, between lines that are none.
 *
 *   {"Action":"output","Package":"example.com/app","Test":"TestA/sub","Output":"--- FAIL: ...\n"}
 *
 *   start              a package begins
 *   run, pause, cont   a test begins, waits for others, goes on
 *   output             a piece of what a test or, without Test, a package printed
 *   pass, fail, skip   the end of a test or, without Test, of a package; Elapsed in seconds. `bench` ends a benchmark as passed
 *   build-output,      the same for compiling ImportPath; a package that fails for it names it in FailedBuild
 *   build-fail
 *
 * A package is given as a test of its own, with an empty name: it may fail without a test that did (it does not compile, a test calls
 * os.Exit). Tests that began and have no end when their package ends, as after a panic or -timeout, are given as failed. A toolchain that
 * knows no build events prints `FAIL\tPACKAGE [build failed]` instead, which ends the package as well.
 *
 * `onOutput` gets what a person would have seen without -json: the text of all output events, and every line that is no event as it is.
 * A line over LINE_LIMIT is no event. Of tests that begin while there is no room to follow them, only the end is known.
 */
import {
  type Budget,
  fullName,
  KEPT_AT_ONCE,
  KeptOutput,
  keptName,
  milliseconds,
  type ReportEnd,
  type ReportedTest,
  type ReportReader,
  ReportTally,
  type TestOutcome,
} from "./test-report.ts";

export const LINE_LIMIT: number = 1024 * 1024;

export interface GoTestJsonHandler {
  readonly onTest: (test: ReportedTest) => void;
  readonly onOutput?: (text: string) => void;
}

const LF = 10;
const UTF_8 = new TextDecoder();
/** By its first byte, how long a line may be that is to be looked at as a whole: an event, or FAIL. */
const HELD: ReadonlyMap<number | undefined, number> = new Map([
  ["{".charCodeAt(0), LINE_LIMIT],
  ["F".charCodeAt(0), 1000],
]);
const ENDS: ReadonlyMap<unknown, TestOutcome> = new Map([
  ["pass", "passed"],
  ["bench", "passed"],
  ["fail", "failed"],
  ["skip", "skipped"],
]);

interface GoPackage {
  readonly output: KeptOutput;
  /** Test -> what it printed so far. */
  readonly tests: Map<string, KeptOutput>;
}

export class GoTestJsonReader implements ReportReader {
  readonly #onOutput: (text: string) => void;
  readonly #tally: ReportTally;
  readonly #budget: Budget = { left: KEPT_AT_ONCE };
  /** Packages that have begun and not ended. */
  readonly #packages = new Map<string, GoPackage>();
  /** ImportPath -> what its compiler said. */
  readonly #builds = new Map<string, KeptOutput>();
  readonly #plain = new TextDecoder();
  #events = 0;
  #line: Buffer = Buffer.alloc(0); // the unfinished line, with room to grow
  #lineBytes = 0;
  #lineIsText = false; // the unfinished line is no event, and what there was of it has been passed on

  constructor({ onTest, onOutput }: GoTestJsonHandler) {
    this.#tally = new ReportTally(onTest);
    this.#onOutput = onOutput ?? (() => {});
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const lf = chunk.indexOf(LF, at);
      const end = lf === -1 ? chunk.length : lf + 1;
      this.#piece(chunk.subarray(at, end), lf !== -1);
      at = end;
    }
  }

  end(): ReportEnd {
    this.#piece(new Uint8Array(), true);
    this.#text(this.#plain.decode());
    const open = [...this.#packages.keys()];
    if (this.#events === 0) this.#tally.note("There is no event of `go test -json` in it");
    if (open.length > 0) {
      this.#tally.note(`The report breaks off: package ${JSON.stringify(open[0])} has no result`);
    }
    return this.#tally.end(this.#unended());
  }

  *#unended(): Generator<string> {
    for (const [suite, { tests }] of this.#packages) {
      for (const test of tests.keys()) yield fullName({ suite, test });
    }
  }

  /** A piece of a line, or its end. Only what may still become an event is held back. */
  #piece(piece: Uint8Array, isEnd: boolean): void {
    const held = HELD.get(this.#lineBytes > 0 ? this.#line[0] : piece[0]) ?? 0;
    if (!this.#lineIsText && this.#lineBytes + piece.length <= held) {
      if (!isEnd || this.#lineBytes > 0) this.#hold(piece);
      if (isEnd) this.#wholeLine(this.#lineBytes > 0 ? this.#line.subarray(0, this.#lineBytes) : piece);
      return;
    }
    if (!this.#lineIsText && held === LINE_LIMIT) {
      this.#tally.note(`A line of the report is longer than ${LINE_LIMIT} bytes, and was taken for plain output`);
    }
    this.#plainText(this.#line.subarray(0, this.#lineBytes));
    this.#lineBytes = 0;
    this.#plainText(piece);
    this.#lineIsText = !isEnd && (this.#lineIsText || piece.length > 0);
  }

  #hold(piece: Uint8Array): void {
    const needed = this.#lineBytes + piece.length;
    if (needed > this.#line.length) {
      const grown = Buffer.allocUnsafe(Math.max(4096, 2 * needed));
      this.#line.copy(grown, 0, 0, this.#lineBytes);
      this.#line = grown;
    }
    this.#line.set(piece, this.#lineBytes);
    this.#lineBytes = needed;
  }

  #wholeLine(line: Uint8Array): void {
    const event = eventOf(line);
    if (event) this.#event(event);
    else {
      this.#plainText(line);
      this.#oldBuildFailure(line);
    }
    this.#lineBytes = 0;
  }

  #plainText(bytes: Uint8Array): void {
    this.#text(this.#plain.decode(bytes, { stream: true }));
  }

  #text(text: string): void {
    if (text !== "") this.#onOutput(text);
  }

  #event(event: Readonly<Record<string, unknown>>): void {
    this.#events++;
    const action = event.Action;
    const output = textOf(event.Output);
    if (action === "output" || action === "build-output") this.#text(output);
    if (action === "build-output") {
      this.#keep(this.#builds, keptName(textOf(event.ImportPath)), output);
      return;
    }
    const suite = keptName(textOf(event.Package));
    const test = keptName(textOf(event.Test));
    if (suite === "") return;
    const outcome = ENDS.get(action);
    const about = this.#packages.get(suite) ?? (outcome ? undefined : this.#begin(suite));
    if (!outcome) {
      // Only `run` begins a test: what is printed in its name after its end counts to the package.
      if (about && test !== "" && action === "run") this.#keep(about.tests, test, "");
      else (about?.tests.get(test) ?? about?.output)?.add(output);
      return;
    }
    const durationMs = typeof event.Elapsed === "number" ? milliseconds(event.Elapsed) : undefined;
    if (test === "") {
      this.#endOfPackage(suite, outcome, durationMs, keptName(textOf(event.FailedBuild)));
      return;
    }
    this.#tally.give({ suite, test, outcome, durationMs, output: about?.tests.get(test)?.text ?? "" });
    about?.tests.get(test)?.close();
    about?.tests.delete(test);
  }

  #begin(suite: string): GoPackage | undefined {
    const output = this.#follow(suite);
    if (!output) return undefined;
    const begun = { output, tests: new Map<string, KeptOutput>() };
    this.#packages.set(suite, begun);
    return begun;
  }

  #keep(outputs: Map<string, KeptOutput>, name: string, text: string): void {
    const kept = outputs.get(name) ?? this.#follow(name);
    kept?.add(text);
    if (kept) outputs.set(name, kept);
  }

  #follow(name: string): KeptOutput | undefined {
    const kept = KeptOutput.open(this.#budget, name);
    if (!kept) this.#tally.note("Too many tests had begun at the same time; what some of them printed is left out");
    return kept;
  }

  #endOfPackage(suite: string, outcome: TestOutcome, durationMs: number | undefined, failedBuild: string): void {
    const ended = this.#packages.get(suite);
    for (const [test, kept] of ended?.tests ?? []) {
      const output = `${kept.text}\nThe package ended without a result of this test.\n`;
      this.#tally.give({ suite, test, outcome: "failed", durationMs: undefined, output });
      kept.close();
    }
    // Kept to the end: other packages may fail for the same one.
    const output = `${this.#builds.get(failedBuild)?.text ?? ""}${ended?.output.text ?? ""}`;
    this.#tally.give({ suite, test: "", outcome, durationMs, output });
    ended?.output.close();
    this.#packages.delete(suite);
  }

  #oldBuildFailure(line: Uint8Array): void {
    const [, suite, why] = /^FAIL\t(\S+) \[((?:build|setup) failed)\]\r?\n?$/.exec(UTF_8.decode(line)) ?? [];
    if (suite === undefined) return;
    this.#events++;
    this.#tally.give({ suite, test: "", outcome: "failed", durationMs: undefined, output: `${why}\n` });
    this.#packages.get(suite)?.output.close();
    this.#packages.delete(suite);
  }
}

/** The line as an event; undefined when it is none. */
function eventOf(line: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const event: unknown = JSON.parse(UTF_8.decode(line));
    if (typeof event !== "object" || event === null || !("Action" in event)) return undefined;
    return typeof event.Action === "string" ? (event as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
