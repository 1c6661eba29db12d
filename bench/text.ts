/** Text that packs about as well as source does, the same at each time. */

export function textLikeSource(random: () => number): Buffer {
  const words = Array.from({ length: 3000 }, () =>
    random()
      .toString(36)
      .slice(0, 3 + (random() % 9)),
  );
  let text = "";
  while (text.length < 8_000_000) {
    text += "  ".repeat(random() % 4);
    for (let left = 3 + (random() % 8); left > 0; left--) text += `${words[random() % (random() % 3 ? 300 : 3000)]} `;
    text += "\n";
  }
  return Buffer.from(text);
}

/** Numbers that look random, the same at each time. */
export function numbers(): () => number {
  let state = 42;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state ^ (state >>> 15)) >>> 0;
  };
}
