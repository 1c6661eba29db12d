/**
 * `coordinator -rebuild 12` and the like: the command line beside a running coordinator. It finds that one by the data
 * folder, and speaks to its pages with the operator token of the secrets folder, so that there is one place where things are done.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { FarmError, messageOf } from "../farm/errors.ts";
import { holderOf } from "../store/data-folder.ts";

const LIMIT_MS = 30_000;

export type Command =
  | { readonly do: "rebuild" | "cancel"; readonly build: string }
  | { readonly do: "drain" | "resume"; readonly target: string; readonly note: string };

/** Carries out `command`; resolves with what the coordinator answered. Throws FarmError saying why it cannot be done. */
export async function control(data: string, secrets: string, command: Command): Promise<string> {
  const holder = await holderOf(data);
  if (!holder?.http) {
    throw new FarmError(
      "unavailable",
      `Cannot ${command.do}: no coordinator runs on the data folder ${data}. Start one, or give its folder with -data.`,
    );
  }
  const token = (await readFile(join(secrets, "operator-token"), "utf8")).trim();
  const { path, body } = request(command);
  let response: Response;
  try {
    response = await fetch(`${holder.http}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, accept: "application/json" },
      body: new URLSearchParams(body),
      redirect: "error",
      signal: AbortSignal.timeout(LIMIT_MS),
    });
  } catch (error) {
    throw new FarmError(
      "unavailable",
      `Cannot ${command.do}: the coordinator at ${holder.http} does not answer: ${messageOf(error)}`,
      { cause: error },
    );
  }
  const text = (await response.text()).trim();
  if (!response.ok) throw new FarmError("conflict", `Cannot ${command.do}: ${said(text) ?? response.statusText}`);
  return said(text) ?? `${command.do}: done`;
}

function request(command: Command): { path: string; body: Record<string, string> } {
  if ("build" in command) return { path: `/b/${encodeURIComponent(command.build)}/${command.do}`, body: {} };
  // A host type is named as in the configuration; anything else is a machine.
  const kind = command.target.startsWith("host-") ? "hosts" : "machines";
  return { path: `/${kind}/${encodeURIComponent(command.target)}/${command.do}`, body: { note: command.note } };
}

function said(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    if ("error" in value) return String(value.error);
    return "message" in value ? String(value.message) : undefined;
  } catch {
    return text || undefined;
  }
}
