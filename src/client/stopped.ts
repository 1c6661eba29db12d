/** How a command ends that was told to stop. */

/** The reason with which the signal of a command aborts: the system sent the command a signal of that name. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  /** The status that a shell shows for a program which the signal ended. */
  readonly exitStatus: number;

  constructor(name: "SIGINT" | "SIGTERM") {
    super(`told to stop by ${name}`);
    this.exitStatus = name === "SIGINT" ? 130 : 143;
  }
}

/** The exit status of a command whose `signal` has aborted. */
export function stoppedStatus(signal: AbortSignal): number {
  return (signal.reason as Stopped).exitStatus;
}
