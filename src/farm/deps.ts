/** The small interfaces that nearly every room takes from main. */

/** Structured log: constant text, moving parts as fields, so that lines group. pino satisfies it. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/**
 * Tells the rest of the farm that something changed: this process at once, other coordinators within moments.
 *
 * Topics are `noun:id`:
 *
 *   build:12, machine:5, session:ID, queue:HOST-TYPE, log:9, grid:REPO, repo:REPO, config:, farm:
 *   standing:REPO   since when its builders are red
 *   given:SESSION   an idle session was given a lease
 *   person:ID       a person was added or removed, or has other roles
 *
 * A topic is a hint to look at the database again, never the state itself.
 */
export interface Bus {
  publish(topic: string): void;
  /** Calls `listener` for each topic that begins with `prefix`, until `signal` aborts. */
  subscribe(prefix: string, listener: (topic: string) => void, signal: AbortSignal): void;
}
