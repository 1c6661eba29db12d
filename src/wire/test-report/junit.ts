/**
 * JUnit XML, as Ant began it and a hundred programs write it, each a little differently.
 *
 *   <testsuites>                                          or one <testsuite> alone; suites may stand in suites
 *     <testsuite name="...">
 *       <testcase classname="..." name="..." time="1.5">  seconds, thousands perhaps set apart by commas
 *         <failure message="..." type="...">text</failure>   or <error>: failed
 *         <skipped message="..."/>                           skipped, as status="notrun" or "disabled" also says
 *         <system-out>, <system-err>                         what it printed
 *
 * A test case without a class counts to the suite around it. A <failure> or <error> right in a suite fails the suite. Everything else
 * (properties, the repetitions of test runners that try again) is passed over.
 *
 * XML is a language in which a document can ask for files, other computers and unlimited memory. This reader has no part of that: it
 * stops at a DOCTYPE or any other declaration, knows the five entities of XML and character references only, and bounds depth,
 * attributes and every single token (TOKEN_LIMIT), apart from text, which may come in pieces.
 */
/// <reference path="./sax.d.ts" />
import sax, { type SAXParser } from "sax";
import {
  type Budget,
  fullName,
  KEPT_AT_ONCE,
  KeptOutput,
  milliseconds,
  type ReportEnd,
  type ReportedTest,
  type ReportReader,
  ReportTally,
  type TestOutcome,
} from "./test-report.ts";

const TOKEN_LIMIT = 1024 * 1024;
const DEPTH_LIMIT = 100;
const ATTRIBUTES_LIMIT = 200;
/** As much as is given to the parser at once: it checks its limits between. */
const STRIDE = 64 * 1024;
/** Within so many bytes a declaration says its encoding. */
const DECLARATION = 200;

sax.MAX_BUFFER_LENGTH = TOKEN_LIMIT;

interface Case {
  readonly suite: string;
  readonly test: string;
  readonly durationMs: number | undefined;
  readonly kept: KeptOutput | undefined;
  outcome: TestOutcome;
}

type Attributes = Readonly<Record<string, string>>;

const VERDICTS: ReadonlyMap<string, TestOutcome> = new Map([
  ["failure", "failed"],
  ["error", "failed"],
  ["skipped", "skipped"],
]);
const PRINTED: ReadonlySet<string> = new Set(["system-out", "system-err"]);
const NOT_RUN: ReadonlySet<string | undefined> = new Set(["notrun", "disabled"]);

export class JUnitReader implements ReportReader {
  readonly #tally: ReportTally;
  readonly #budget: Budget = { left: KEPT_AT_ONCE };
  readonly #parser: SAXParser = sax.parser(true, { strictEntities: true });
  /** Names of the elements we are in, the outermost first. */
  readonly #path: string[] = [];
  /** Names of the suites we are in. */
  readonly #suites: string[] = [];
  #begun = false;
  #case: Case | undefined;
  #attributes = 0;
  #start: Buffer = Buffer.alloc(0); // until the encoding is known
  #decode: ((bytes: Uint8Array, stream: boolean) => string) | undefined;

  constructor(onTest: (test: ReportedTest) => void) {
    this.#tally = new ReportTally(onTest);
    const parser = this.#parser;
    const refuse = (what: string) => () => {
      throw new Error(`it holds ${what}, which a test report has no use for`);
    };
    parser.onerror = (error) => {
      throw new Error(error.message.split("\n")[0]);
    };
    parser.ondoctype = refuse("a DOCTYPE");
    parser.onsgmldeclaration = refuse("a declaration");
    parser.onopentagstart = () => {
      this.#attributes = 0;
    };
    parser.onattribute = () => {
      if (++this.#attributes > ATTRIBUTES_LIMIT) {
        throw new Error(`an element has more than ${ATTRIBUTES_LIMIT} attributes`);
      }
    };
    parser.onopentag = ({ name, attributes }) => this.#opened(name, attributes);
    parser.onclosetag = () => this.#closed();
    parser.ontext = (text) => this.#text(text);
    parser.oncdata = (text) => this.#text(text);
  }

  push(chunk: Uint8Array): void {
    if (this.#tally.trouble !== undefined) return;
    if (this.#decode) {
      this.#read(chunk, true);
      return;
    }
    this.#start = Buffer.concat([this.#start, chunk]);
    if (this.#start.length >= DECLARATION) this.#begin();
  }

  end(): ReportEnd {
    if (this.#tally.trouble === undefined && !this.#decode) this.#begin();
    this.#read(new Uint8Array(), false);
    this.#try(() => {
      if (!this.#begun) throw new Error("it is empty");
      this.#parser.close();
    });
    return this.#tally.end(this.#case ? [fullName(this.#case)] : []);
  }

  #begin(): void {
    const start = this.#start;
    this.#start = Buffer.alloc(0);
    const encoding = encodingOf(start);
    try {
      const decoder = new TextDecoder(encoding);
      this.#decode = (bytes, stream) => decoder.decode(bytes, { stream });
    } catch {
      this.#tally.note(`Cannot read the report: its encoding ${JSON.stringify(encoding)} is not known`);
      return;
    }
    this.#read(start, true);
  }

  #read(bytes: Uint8Array, stream: boolean): void {
    for (let at = 0; at < Math.max(bytes.length, 1); at += STRIDE) {
      const text = this.#decode?.(bytes.subarray(at, at + STRIDE), stream) ?? "";
      if (text !== "") this.#try(() => this.#parser.write(text));
    }
  }

  /** After the first thing that is wrong nothing more is read: a guess at what was meant may turn a failure into a success. */
  #try(read: () => void): void {
    if (this.#tally.trouble !== undefined) return;
    try {
      read();
    } catch (error) {
      const line = this.#parser.line + 1;
      this.#tally.note(
        `Cannot read the report further than line ${line}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  #opened(name: string, attributes: Attributes): void {
    if (this.#path.length === 0 && name !== "testsuites" && name !== "testsuite") {
      throw new Error(`the root is <${name.slice(0, 100)}>: want <testsuites> or <testsuite>`);
    }
    if (this.#path.length === DEPTH_LIMIT) throw new Error(`it is nested more than ${DEPTH_LIMIT} deep`);
    this.#begun = true;
    const parent = this.#path.at(-1);
    this.#path.push(name);
    if (name === "testsuite") this.#suites.push(attributes.name ?? "");
    if (name === "testcase") {
      this.#openCase(attributes);
      return;
    }
    const verdict = VERDICTS.get(name);
    const message = attributes.message ?? "";
    if (parent === "testcase" && this.#case) {
      // A case that failed after it was skipped, or the other way round, has failed.
      if (verdict && this.#case.outcome !== "failed") this.#case.outcome = verdict;
      if (verdict && message !== "") this.#case.kept?.add(`${message}\n`);
    } else if (parent === "testsuite" && verdict === "failed") {
      const suite = this.#suites.at(-1) ?? "";
      this.#tally.give({ suite, test: "", outcome: "failed", durationMs: undefined, output: message });
    }
  }

  #openCase(attributes: Attributes): void {
    if (this.#case) throw new Error("a testcase stands in another");
    const test = attributes.name ?? "";
    this.#case = {
      suite: attributes.classname || (this.#suites.at(-1) ?? ""),
      test,
      durationMs: secondsOf(attributes.time),
      kept: KeptOutput.open(this.#budget, test),
      outcome: NOT_RUN.has(attributes.status) ? "skipped" : "passed",
    };
  }

  #text(text: string): void {
    if (!this.#case || this.#path.at(-2) !== "testcase") return;
    const element = this.#path.at(-1) ?? "";
    if (VERDICTS.has(element) || PRINTED.has(element)) this.#case.kept?.add(text);
  }

  #closed(): void {
    const name = this.#path.pop();
    if (name === "testsuite") this.#suites.pop();
    if (name !== "testcase" || !this.#case) return;
    const { suite, test, outcome, durationMs, kept } = this.#case;
    this.#case = undefined;
    this.#tally.give({ suite, test, outcome, durationMs, output: kept?.text ?? "" });
    kept?.close();
  }
}

function secondsOf(text: string | undefined): number | undefined {
  const plain = (text ?? "").replaceAll(",", "").trim();
  return /^\d+(\.\d*)?(e-?\d+)?$/i.test(plain) ? milliseconds(Number(plain)) : undefined;
}

/** By the mark at the beginning, else by the declaration, else UTF-8. */
function encodingOf(start: Buffer): string {
  if (start[0] === 0xff && start[1] === 0xfe) return "utf-16le";
  if (start[0] === 0xfe && start[1] === 0xff) return "utf-16be";
  const declared = /^(?:\xef\xbb\xbf)?<\?xml[^>]*?\sencoding\s*=\s*["']([^"']{1,40})["']/.exec(
    start.toString("latin1"),
  );
  return declared?.[1] ?? "utf-8";
}
