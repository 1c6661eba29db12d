/** How machine-side programs are told to stop: the first SIGINT or SIGTERM ends them in order, the second at once. */
const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

export interface StopSignals {
  readonly signal: AbortSignal;
  /** 128 plus the number of the signal that came; 0 while none has come. */
  readonly exitCode: () => number;
}

export function stopSignals(): StopSignals {
  const stop = new AbortController();
  let signalled = 0;
  for (const [name, number] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (signalled !== 0) process.exit(128 + number);
      signalled = 128 + number;
      stop.abort(new Error(`told to stop by ${name}`));
    });
  }
  return { signal: stop.signal, exitCode: () => signalled };
}
