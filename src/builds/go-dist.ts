/**
 * What `go tool dist test` of Go's own tree says: the names of its tests, and its output.
 *
 * Names. Until Go 1.20 it called its tests `go_test:net/http`, `test:0_10`, `api`; since Go 1.21 `net/http`, `cmd/internal/testdir:0_10`,
 * `cmd/api:check`. A test is run by the name that was printed. Patterns in a configuration mean the older name of each, which says
 * what kind of test it is: so they mean the same tests whatever the version.
 *
 * Output. Asked with `--banner=BANNER` it begins each section with a line of BANNER and the section's title. People read `##### title` instead, and
 * what many calls would repeat is said when it changes only: the description of the machine, and the title of a section.
 */

export const BANNER = "XXXBANNERXXX:";

/** Groups of packages and variants by the name that Go has for them since 1.21. What fits none of these is known by the name that it has. */
const OLDER: readonly (readonly [newer: RegExp, older: string])[] = [
  [/^cmd\/internal\/testdir:(\d+_\d+)$/, "test:$1"],
  [/^cmd\/api(:check)?$/, "api"],
  [/^cmd\/internal\/bootstrap_test(:.*)?$/, "reboot"],
  [/^.*:moved_goroot$/, "moved_goroot"],
  [/^(.*):nolibgcc$/, "nolibgcc:$1"],
  [/^(.*):racebench$/, "go_test_bench:$1"],
  [/^.*:race$/, "race"],
];
/** A name of before 1.21: it begins with its kind, or is one of a few words that are no package. */
const IS_OLDER = /^(go_test|go_test_bench|test|nolibgcc|cgo_\w+|swig_\w+|doc_progs|fortran|misc)(:|$)/;
const WORDS = ["api", "reboot", "race", "moved_goroot"];

/** The older name of a test that was listed as `name`. */
export function olderName(name: string): string {
  if (IS_OLDER.test(name) || WORDS.includes(name)) return name;
  for (const [newer, older] of OLDER) if (newer.test(name)) return name.replace(newer, older);
  return name.includes(":") ? name : `go_test:${name}`;
}

/** Longer than any description of a machine; what claims to be one and is longer is passed on as it is. */
const LONGEST_BLOCK = 64 * 1024;
const DESCRIPTION = "Test execution environment.";
const banner = Buffer.from(BANNER);
const LF = Buffer.from("\n");

/** What was said last, for all calls whose output one reader reads in a row. */
export interface DistSaid {
  description: string;
  title: string;
}

export function nothingSaid(): DistSaid {
  return { description: "", title: "" };
}

/**
 * The output of one call, made readable as it comes. Only what may be the beginning of a banner is held back, and the description of the
 * machine until it has ended.
 */
export class DistOutput {
  readonly #said: DistSaid;
  /** The beginning of a line that may become a banner, or the whole of a banner's line so far. */
  #line: Buffer = Buffer.alloc(0);
  /** In the middle of a line that is passed on. */
  #passing = false;
  /** An empty line is to come before whatever comes; it is dropped when a banner after it is. */
  #blank = false;
  /** That line is ours, not the command's. */
  #ownBlank = false;
  /** The description that is being read. */
  #block: string | undefined;

  constructor(said: DistSaid) {
    this.#said = said;
  }

  push(chunk: Buffer): Buffer {
    const out: Buffer[] = [];
    let from = 0;
    while (from < chunk.length) {
      const lf = chunk.indexOf(10, from);
      const to = lf === -1 ? chunk.length : lf + 1;
      this.#part(chunk.subarray(from, to), lf !== -1, out);
      from = to;
    }
    return Buffer.concat(out);
  }

  /** What is still held back. */
  end(): Buffer {
    const out: Buffer[] = [];
    this.#endBlock(out);
    this.#pass(this.#line, out);
    this.#line = Buffer.alloc(0);
    if (this.#blank && !this.#ownBlank) out.push(LF);
    return Buffer.concat(out);
  }

  #part(part: Buffer, ends: boolean, out: Buffer[]): void {
    if (this.#passing) {
      out.push(part);
      this.#passing = !ends;
      return;
    }
    const line = this.#line.length === 0 ? part : Buffer.concat([this.#line, part]);
    const held = this.#block !== undefined || isBeginning(line);
    if (!ends && held && line.length < LONGEST_BLOCK) {
      this.#line = Buffer.from(line);
      return;
    }
    this.#line = Buffer.alloc(0);
    if (ends && line.subarray(0, banner.length).equals(banner)) {
      this.#banner(line.toString("utf8", banner.length).trimEnd(), out);
    } else if (
      this.#block !== undefined &&
      ends &&
      /^(#|\r?\n$)/.test(line.toString("latin1")) &&
      this.#block.length < LONGEST_BLOCK
    ) {
      this.#block += line.toString("utf8"); // `# GOARCH: amd64`
    } else {
      this.#endBlock(out);
      if (line.equals(LF) && !this.#blank) {
        this.#blank = true;
        this.#ownBlank = false;
        return;
      }
      this.#pass(line, out);
      this.#passing = !ends;
    }
  }

  #banner(title: string, out: Buffer[]): void {
    this.#endBlock(out);
    if (title === DESCRIPTION) {
      this.#block = "";
      return;
    }
    if (title === this.#said.title) this.#blank = false;
    else this.#pass(Buffer.from(`##### ${title}\n`), out);
    this.#said.title = title;
  }

  #endBlock(out: Buffer[]): void {
    const block = this.#block?.trimEnd();
    this.#block = undefined;
    if (block === undefined) return;
    if (block === this.#said.description) this.#blank = false;
    else {
      this.#pass(Buffer.from(`##### ${DESCRIPTION}\n${block}\n`), out);
      this.#said.description = block;
      this.#said.title = ""; // on another machine, the same section is another
    }
    if (this.#blank) return;
    this.#blank = true;
    this.#ownBlank = true;
  }

  #pass(bytes: Buffer, out: Buffer[]): void {
    if (bytes.length === 0) return;
    if (this.#blank) out.push(LF);
    this.#blank = false;
    out.push(bytes);
  }
}

function isBeginning(line: Buffer): boolean {
  const length = Math.min(line.length, banner.length);
  return line.subarray(0, length).equals(banner.subarray(0, length));
}
