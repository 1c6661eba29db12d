/** Text that packs about as well as source does, the same at each time. */
import { random } from "../e2e/testing/random.ts";

export function textLikeSource(number: () => number): Buffer {
  const words = Array.from({ length: 3000 }, () =>
    number()
      .toString(36)
      .slice(0, 3 + (number() % 9)),
  );
  let text = "";
  while (text.length < 8_000_000) {
    text += "  ".repeat(number() % 4);
    for (let left = 3 + (number() % 8); left > 0; left--) text += `${words[number() % (number() % 3 ? 300 : 3000)]} `;
    text += "\n";
  }
  return Buffer.from(text);
}

/** Whole numbers below 2 ** 32, the same at each time. */
export function numbers(): () => number {
  const next = random(42);
  return () => next() * 2 ** 32;
}
