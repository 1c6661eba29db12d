/**
 * `coordinator -rebuild 12` and the like: the command line beside a running coordinator. It finds the coordinator by
 * the data folder, and speaks to its pages with the operator token of the secrets folder. So things are done in one
 * place only.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, ms } from "../farm/ids.ts";
import { holderOf } from "../store/data-folder.ts";

const LIMIT_MS = 30_000;
const LOOK_AGAIN: Ms = ms(500);

export type Command =
  | { readonly do: "rebuild" | "cancel"; readonly build: string }
  | { readonly do: "drain" | "resume"; readonly target: string; readonly note: string; readonly waitMs: Ms };

/**
 * Reads `path` from the running coordinator, or posts `body` to it. Resolves with the answer. Throws a FarmError that
 * says why not.
 */
export type Ask = (path: string, body?: Readonly<Record<string, string>>) => Promise<string>;

/** Finds the coordinator that runs on `data`. `what`: the thing to do, for messages. */
export async function runningFarm(data: string, secrets: string, what: string): Promise<Ask> {
  const holder = await holderOf(data);
  if (!holder?.http) {
    throw new FarmError(
      "unavailable",
      `Cannot ${what}: no coordinator runs on the data folder ${data}. Start one, or give its folder with -data.`,
    );
  }
  const token = (await readFile(join(secrets, "operator-token"), "utf8")).trim();
  return async (path, body) => {
    let response: Response;
    try {
      response = await fetch(`${holder.http}${path}`, {
        method: body ? "POST" : "GET",
        headers: { authorization: `Bearer ${token}`, accept: "application/json" },
        ...(body ? { body: new URLSearchParams(body) } : {}),
        redirect: "error",
        signal: AbortSignal.timeout(LIMIT_MS),
      });
    } catch (error) {
      throw new FarmError(
        "unavailable",
        `Cannot ${what}: the coordinator at ${holder.http} does not answer: ${messageOf(error)}`,
        { cause: error },
      );
    }
    const text = (await response.text()).trim();
    if (!response.ok) {
      const reason = said(text) ?? response.statusText;
      throw new FarmError("conflict", reason.startsWith("Cannot ") ? reason : `Cannot ${what}: ${reason}`);
    }
    return text;
  };
}

/**
 * Carries out `command`. Resolves with the coordinator's answer, for a drain that waits when nothing runs there any
 * more. Throws a FarmError that says why it cannot be done.
 */
export async function control(data: string, secrets: string, command: Command, clock: Clock): Promise<string> {
  const ask = await runningFarm(data, secrets, command.do);
  const { path, body, running } = request(command);
  const answer = said(await ask(path, body)) ?? `${command.do}: done`;
  if (!("waitMs" in command) || command.waitMs === 0) return answer;
  const until = clock.monotonic() + command.waitMs;
  for (;;) {
    const count = runningIn(await ask(running));
    if (count === 0) return `${answer}; nothing runs there any more`;
    if (clock.monotonic() >= until) {
      const left = count === 1 ? "1 machine is" : `${count} machines are`;
      throw new FarmError("timed-out", `${answer}, but ${left} still at work after ${durationText(command.waitMs)}`);
    }
    await clock.sleep(LOOK_AGAIN);
  }
}

function runningIn(text: string): number {
  const value: unknown = JSON.parse(text);
  if (typeof value === "object" && value !== null && "running" in value) return Number(value.running);
  throw new FarmError("internal", `Cannot read what runs from ${JSON.stringify(text)}`);
}

/** The path and body to post, and the path that says what still runs. */
function request(command: Command): { path: string; body: Record<string, string>; running: string } {
  if ("build" in command) {
    return { path: `/b/${encodeURIComponent(command.build)}/${command.do}`, body: {}, running: "/running" };
  }
  const body = { note: command.note };
  const whole = command.target === "all" ? "farm" : command.target === "coordinator" ? "coordinator" : undefined;
  if (whole !== undefined) return { path: `/${whole}/${command.do}`, body, running: `/running?${whole}=` };
  const target = encodeURIComponent(command.target);
  return { path: `/named/${target}/${command.do}`, body, running: `/running?named=${target}` };
}

/** The text for people in an answer of the coordinator. */
export function said(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    if ("error" in value) return String(value.error);
    return "message" in value ? String(value.message) : undefined;
  } catch {
    return text || undefined;
  }
}
