/** What a bench is, and what it is given. */
import { type Figure, figureOf, type Measured } from "./figure.ts";

export interface Bench {
  readonly name: string;
  /** It belongs to the figures of that bench: whoever asks for that one by name gets both. */
  readonly of?: string;
  /** One line for `-help`. */
  readonly about: string;
  /** The bench is ended, and counts as broken, when it takes longer. */
  readonly limitMs: number;
  run(context: Context): Promise<void>;
}

export interface Context {
  /** Aborts when the limit has passed or the user asked to end. */
  readonly signal: AbortSignal;
  /** Says how it goes, on stderr. */
  note(text: string): void;
  /** Prints a figure. */
  report(figure: Omit<Measured, "bench">): void;
}

/** Those of `benches` that `names` ask for; without names, all. */
export function chosenBy(names: readonly string[], benches: readonly Bench[]): readonly Bench[] {
  const asked = (name: string | undefined) => name !== undefined && names.includes(name);
  return names.length === 0 ? benches : benches.filter(({ name, of }) => asked(name) || asked(of));
}

export class Recorder implements Context {
  readonly signal: AbortSignal;
  readonly figures: Figure[] = [];
  readonly #bench: string;
  readonly #print: (figure: Figure) => void;

  constructor(bench: string, signal: AbortSignal, print: (figure: Figure) => void) {
    this.#bench = bench;
    this.signal = signal;
    this.#print = print;
  }

  note(text: string): void {
    process.stderr.write(`${this.#bench}: ${text}\n`);
  }

  report(measured: Omit<Measured, "bench">): void {
    const figure = figureOf({ bench: this.#bench, ...measured });
    this.figures.push(figure);
    this.#print(figure);
  }
}
