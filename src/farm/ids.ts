/**
 * The names and numbers that everything else passes around, branded so that one cannot stand in for another.
 *
 * The functions of this file put a brand on at the edge (a row, a request, a flag). Inside, it is trusted.
 */
declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]: B };

/** A span in milliseconds. */
export type Ms = Brand<number, "Ms">;
/** An instant, in milliseconds since 1970-01-01 UTC. */
export type EpochMs = Brand<number, "EpochMs">;
/** A build's public number, as in `/b/1234`. */
export type BuildId = Brand<number, "BuildId">;
/** One try at a build on one machine. */
export type AttemptId = Brand<number, "AttemptId">;
/** A claim on one machine; the only thing the scheduler hands out. */
export type LeaseId = Brand<number, "LeaseId">;
/** A lent or owned computer; outlives its connections. */
export type MachineId = Brand<number, "MachineId">;
/** One connection of a machine, from dialling in to hanging up: 32 hex digits. */
export type SessionId = Brand<string, "SessionId">;
/** One coordinator process: `P` and 9 hex digits. */
export type CoordinatorId = Brand<string, "CoordinatorId">;
/** One stream of output kept by `logs/`. */
export type LogId = Brand<number, "LogId">;
/** Somebody who uses the farm: `U` and 9 hex digits. */
export type PersonId = Brand<string, "PersonId">;

export function ms(value: number): Ms {
  return value as Ms;
}
export function seconds(value: number): Ms {
  return (value * 1000) as Ms;
}
export function minutes(value: number): Ms {
  return (value * 60_000) as Ms;
}
export function epochMs(value: number): EpochMs {
  return value as EpochMs;
}
/** The instant `span` after `at` (before it, for a negative span). */
export function plus(at: EpochMs, span: Ms): EpochMs {
  return (at + span) as EpochMs;
}
export function buildId(value: number): BuildId {
  return value as BuildId;
}
export function attemptId(value: number): AttemptId {
  return value as AttemptId;
}
export function leaseId(value: number): LeaseId {
  return value as LeaseId;
}
export function machineId(value: number): MachineId {
  return value as MachineId;
}
export function sessionId(value: string): SessionId {
  return value as SessionId;
}
export function coordinatorId(value: string): CoordinatorId {
  return value as CoordinatorId;
}
export function logId(value: number): LogId {
  return value as LogId;
}
export function personId(value: string): PersonId {
  return value as PersonId;
}
