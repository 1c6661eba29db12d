/**
 * What the programs of a farm's computer share: how they tell a failure, and how they end.
 *
 * Exit status: 0 done; 1 a build failed (`-once`); 2 anything that kept the program from its task.
 */
import { FarmError } from "../farm/errors.ts";

export type Ending = number | { readonly text: string; readonly exitCode: number };

/** Runs a program's `main`, and turns its result or its error into text and exit status. */
export async function main(body: () => Promise<Ending>): Promise<void> {
  try {
    const ending = await body();
    if (typeof ending !== "number") (ending.exitCode === 0 ? process.stdout : process.stderr).write(ending.text);
    process.exitCode = typeof ending === "number" ? ending : ending.exitCode;
  } catch (error) {
    process.stderr.write(
      `${error instanceof FarmError ? error.message : (error instanceof Error && error.stack) || String(error)}\n`,
    );
    process.exitCode = 2;
  }
}
