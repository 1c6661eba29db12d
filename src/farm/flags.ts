/**
 * Command line flags as Go programs read them, since machine owners have such flags in their units and scripts.
 *
 * `-x v`, `-x=v`, `--x v` and `--x=v` mean the same. A bool needs no value and takes one only after `=`. A flag given
 * twice keeps the last value, except `texts`, which collects. Flags end at `--` or at the first argument that is not
 * one; the rest is returned.
 *
 * `-help` and `-h` list all flags (exit 0). A mistake is reported together with the way to get that list (exit 2),
 * since the list itself would push the report off the screen. Nothing here prints or exits: `main.ts` does.
 *
 *   const parsed = parseFlags("usage: coordinator [flags]", { listen: text(":8119", "address for machines") }, argv);
 *   if (parsed.kind === "stop") { process.stderr.write(parsed.text); process.exit(parsed.exitCode); }
 *   parsed.values.listen
 */
import { didYouMean } from "./did-you-mean.ts";
import { type Ms, ms } from "./ids.ts";

export interface Flag<T> {
  /** What the list calls the value. "" for a bool. */
  readonly takes: string;
  readonly initial: T;
  readonly help: string;
  /**
   * The value after reading `given`, where `before` is the value so far. Undefined when `given` is not a valid value.
   */
  readonly read: (given: string, before: T) => T | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: T stands on both sides of `read`, so no other type holds all flags.
export type Flags = { readonly [name: string]: Flag<any> };
export type FlagValues<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

export type ParsedFlags<F extends Flags> =
  | {
      readonly kind: "run";
      readonly values: FlagValues<F>;
      /** The arguments after the flags. */
      readonly args: readonly string[];
      /** The names of the flags that were given. */
      readonly given: ReadonlySet<string>;
    }
  | Stop;

/** The program must end at once and print `text`. */
export interface Stop {
  readonly kind: "stop";
  readonly text: string;
  readonly exitCode: 0 | 2;
}

/** The end of a program that was called with wrong arguments. */
export function usageError(message: string): Stop {
  return { kind: "stop", text: `${message}\nTry -help.\n`, exitCode: 2 };
}

export function text(initial: string, help: string): Flag<string> {
  return { takes: "string", initial, help, read: (given) => given };
}

/** A flag that may be given several times; keeps all values in order. */
export function texts(help: string): Flag<readonly string[]> {
  return { takes: "string, repeatable", initial: [], help, read: (given, before) => [...before, given] };
}

export function bool(initial: boolean, help: string): Flag<boolean> {
  return { takes: "", initial, help, read: parseBool };
}

/** A whole number that is not negative. */
export function count(initial: number, help: string): Flag<number> {
  return { takes: "number", initial, help, read: (given) => (/^\d{1,15}$/.test(given) ? Number(given) : undefined) };
}

/** A span written as Go writes it: `30s`, `1h15m`, `1.5s`, `250ms`. */
export function duration(initial: Ms, help: string): Flag<Ms> {
  return { takes: "duration", initial, help, read: parseDuration };
}

/** One of `choices`. */
export function choice<const T extends string>(choices: readonly T[], initial: T, help: string): Flag<T> {
  const shown = choices.filter((each) => each !== ""); // "" stands for the flag not given
  return { takes: shown.join("|"), initial, help, read: (given) => choices.find((c) => c === given) };
}

/** Reads `argv` (without node and script). `usage` is the first line of the list. */
export function parseFlags<F extends Flags>(usage: string, flags: F, argv: readonly string[]): ParsedFlags<F> {
  const values = new Map<string, unknown>(Object.entries(flags).map(([name, flag]) => [name, flag.initial]));
  const given = new Set<string>();
  let at = 0;
  for (; at < argv.length; at++) {
    const argument = argv[at] ?? "";
    if (argument === "--") {
      at++;
      break;
    }
    if (!argument.startsWith("-") || argument === "-") break;
    const [, name = "", attached] = /^--?([^=]*)(?:=([\s\S]*))?$/.exec(argument) ?? [];
    if (name === "" || name.startsWith("-")) return usageError(`bad flag syntax: ${argument}`);
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) {
      if (name === "help" || name === "h") return { kind: "stop", text: listFlags(usage, flags), exitCode: 0 };
      return usageError(
        `flag provided but not defined: -${name}${didYouMean(
          `-${name}`,
          Object.keys(flags).map((each) => `-${each}`),
        )}`,
      );
    }
    let value = attached;
    if (value === undefined) {
      if (flag.takes === "") value = "true";
      else {
        value = argv[++at];
        if (value === undefined) return usageError(`flag needs an argument: -${name}`);
      }
    }
    const read = flag.read(value, values.get(name));
    if (read === undefined) {
      return usageError(
        `invalid value ${JSON.stringify(value)} for flag -${name}: want ${flag.takes || "true or false"}`,
      );
    }
    values.set(name, read);
    given.add(name);
  }
  return {
    kind: "run",
    values: Object.fromEntries(values) as FlagValues<F>, // the keys of `values` are those of `flags`, never fewer
    args: argv.slice(at),
    given,
  };
}

/** The list that `-help` shows, by name, ending in a line feed. */
export function listFlags(usage: string, flags: Flags): string {
  const lines = [usage];
  for (const name of Object.keys(flags).sort()) {
    const flag = flags[name];
    if (flag === undefined) continue;
    // As in Go, a word in backquotes is what the flag takes.
    const takes = /`([^`]*)`/.exec(flag.help)?.[1] ?? flag.takes;
    const help = flag.help.replace(/`([^`]*)`/, "$1");
    lines.push(`  -${name}${takes === "" ? "" : ` ${takes}`}`, `    \t${help}${showInitial(flag)}`);
  }
  return `${lines.join("\n")}\n`;
}

function showInitial(flag: Flag<unknown>): string {
  const { initial } = flag;
  if (initial === "" || initial === false || initial === 0 || Array.isArray(initial)) return "";
  if (flag.takes === "duration" && typeof initial === "number") return ` (default ${formatDuration(ms(initial))})`;
  return ` (default ${typeof initial === "string" ? JSON.stringify(initial) : String(initial)})`;
}

const BOOLS: { readonly [given: string]: boolean } = {
  "1": true, t: true, T: true, true: true, TRUE: true, True: true,
  "0": false, f: false, F: false, false: false, FALSE: false, False: false,
}; // biome-ignore format: two rows

/** A boolean as Go reads it, in flags, environment variables and form fields. Undefined for any other text. */
export function parseBool(given: string): boolean | undefined {
  return Object.hasOwn(BOOLS, given) ? BOOLS[given] : undefined;
}

const UNITS: { readonly [unit: string]: number } = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** A span as Go writes it. Undefined for any other text. A unit is required except for `0`. */
export function parseDuration(given: string): Ms | undefined {
  const signed = /^([+-]?)(.*)$/.exec(given);
  const [, sign = "", body = ""] = signed ?? [];
  if (body === "0") return ms(0);
  if (!/^((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$/.test(body)) return undefined;
  let total = 0;
  for (const [, number = "", unit = ""] of body.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(number) * (UNITS[unit] ?? 0);
  }
  return ms(sign === "-" ? -total : total);
}

/** `span` the way Go prints it: `1h15m0s`, `1.5s`, `250ms`, `0s`. */
export function formatDuration(span: Ms): string {
  const total = Math.abs(span);
  const sign = span < 0 ? "-" : "";
  if (total === 0) return "0s";
  if (total < 1000) return `${sign}${total}ms`;
  const hours = Math.floor(total / 3_600_000);
  const minutes = Math.floor((total % 3_600_000) / 60_000);
  const secondsLeft = (total % 60_000) / 1000;
  return `${sign}${hours > 0 ? `${hours}h` : ""}${hours > 0 || minutes > 0 ? `${minutes}m` : ""}${secondsLeft}s`;
}
