/** The mistakes of a configuration: all at once, each with its place, the given value and the rule that it breaks. */
import { FarmError } from "../farm/errors.ts";
import { withoutPassword } from "./urls.ts";

export interface Mistake {
  /** The place, such as `builders[2].steps[0].timeLimit`. "" is the farm itself. */
  readonly path: string;
  /** The value, printed and shortened. `missing` when there is none. */
  readonly given: string;
  readonly rule: string;
}

export class ConfigError extends FarmError {
  readonly mistakes: readonly Mistake[];

  constructor(mistakes: readonly Mistake[]) {
    const count = mistakes.length === 1 ? "1 mistake" : `${mistakes.length} mistakes`;
    super("bad-request", `The configuration has ${count}:\n${mistakes.map((m) => `  ${mistakeLine(m)}`).join("\n")}`);
    this.mistakes = mistakes;
  }
}

export function mistakeLine({ path, given, rule }: Mistake): string {
  return `${path === "" ? "farm" : path}: ${given}: ${rule}`;
}

export type Path = readonly PropertyKey[];

/**
 * The mistake at `path` of `input`. The path ends early where `input` does, as when a single name stands for a list.
 */
export function mistake(input: unknown, path: Path, rule: string): Mistake {
  const walked: PropertyKey[] = [];
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null) break;
    walked.push(key);
    value = Reflect.get(value, key);
  }
  // A person who writes the secret itself here has made a mistake, and must not find it in a log as well.
  const secret =
    typeof value === "string" && /^(webhook|token|password|secret|clientSecret)$/.test(String(walked.at(-1)));
  return { path: pathText(walked), given: secret ? '"***"' : show(value), rule };
}

function pathText(path: Path): string {
  let text = "";
  for (const key of path) {
    if (typeof key === "number") text += `[${key}]`;
    else if (typeof key === "string" && /^[A-Za-z_$][\w$]*$/.test(key)) text += text === "" ? key : `.${key}`;
    else text += `[${show(String(key))}]`;
  }
  return text;
}

const LONGEST_SHOWN = 80;

function show(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "function") return "(function)";
  if (typeof value === "bigint" || typeof value === "symbol") return String(value);
  let text: string;
  try {
    text = JSON.stringify(typeof value === "string" ? withoutPassword(value) : value);
  } catch {
    return "(circular)"; // JSON has no text for it
  }
  if (typeof value === "number") text = String(value); // NaN and Infinity are null in JSON
  const plain = text.replace(/[^\P{C}]/gu, (c) => `\\u${(c.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
  return plain.length > LONGEST_SHOWN ? `${plain.slice(0, LONGEST_SHOWN - 1)}…` : plain;
}
