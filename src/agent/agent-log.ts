/** Writes a line for the owner to standard error, with the time in front as in Go: `2026/11/23 17:00:05 text`. */
export function agentLog(line: string): void {
  const now = new Date().toISOString();
  process.stderr.write(`${now.slice(0, 10).replaceAll("-", "/")} ${now.slice(11, 19)} ${line}\n`);
}
