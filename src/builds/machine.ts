/** What builds use of a machine: only the parts of a session that they need, so that a test's machine is small. */
import type { BuildletClient, ExecRequest, ExecResult, MachineSession } from "../machines/machine-session.ts";

/** A command of a build: it always says in which folder it runs. */
export type Command = ExecRequest & { readonly dir: string };

/** How a command ended. */
export type CommandEnd = ExecResult;

/** The calls that builds make. */
export type BuildClient = Pick<
  BuildletClient,
  | "cleanUp"
  | "endExecution"
  | "exec"
  | "ls"
  | "readFiles"
  | "readSnapshot"
  | "readTgz"
  | "removeAll"
  | "workDir"
  | "writeFile"
  | "writeTgz"
  | "writeTgzFromUrl"
>;

/** A machine on which a build runs its commands. */
export type BuildMachine = Pick<MachineSession, "id" | "machineId" | "name" | "agent" | "resumes" | "gone"> & {
  readonly client: BuildClient;
};
