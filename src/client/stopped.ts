/** A command that was told to stop. */

/** Why the signal of a command aborts: the system's signal of that name was sent to it. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  /** As a shell says of a program that the signal ended. */
  readonly exitStatus: number;

  constructor(name: "SIGINT" | "SIGTERM") {
    super(`told to stop by ${name}`);
    this.exitStatus = name === "SIGINT" ? 130 : 143;
  }
}

/** With what a command ends whose `signal` has aborted. */
export function stoppedStatus(signal: AbortSignal): number {
  return (signal.reason as Stopped).exitStatus;
}
