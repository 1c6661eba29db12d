/**
 * Reads a machine's registration, the GET of /reverse: what it says about itself, or the answer that refuses it.
 *
 * The checks come in the order in which the original makes them. Each answer is a short text, which a machine's owner
 * finds in a log:
 *
 *   a header of ours twice, or too long to be true   400
 *   X-Revdial-Version missing, or not 2              400
 *   X-Go-Builder-Hostname or X-Go-Host-Type missing  400
 *   the key                                          412 (keys.ts)
 *
 * The host type need not be in the configuration. The version is the one that the machine names; the original is asked
 * again over HTTP.
 */
import { fieldValues, type RequestHead } from "../../wire/revdial/http-head.ts";
import {
  type AgentInfo,
  parseAgentInfo,
  REGISTRATION_HEADERS,
  REVDIAL_VERSION,
  TASK_HEADERS,
} from "../../wire/revdial/registration.ts";

const MAX_NAME = 200;
const MAX_VALUE = 1024;

export interface Introduction {
  readonly name: string;
  readonly hostType: string;
  readonly key: string;
  /** The version that it names; 0 when it names none. */
  readonly version: number;
  /** What our own agent says about itself. Undefined: it is the original, or sends only what the original sends. */
  readonly agent: AgentInfo | undefined;
}

export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

export type Read =
  | { readonly kind: "introduced"; readonly introduction: Introduction }
  | { readonly kind: "refused"; readonly refusal: Refusal };

export function readIntroduction(head: RequestHead): Read {
  const values = new Map<string, string>();
  for (const name of Object.values(REGISTRATION_HEADERS)) {
    const [value = "", ...more] = fieldValues(head, name);
    if (more.length > 0) return refused(400, `Header ${name} was sent ${more.length + 1} times; want it once.`);
    if (value.length > MAX_VALUE)
      return refused(400, `Header ${name} has ${value.length} characters; want at most ${MAX_VALUE}.`);
    values.set(name, value);
  }
  const get = (name: string): string => values.get(name) ?? "";

  const revdial = get(REGISTRATION_HEADERS.revdialVersion);
  if (revdial === "" && TASK_HEADERS.some((header) => fieldValues(head, header).length > 0)) return refusedTask(head);
  if (revdial === "") {
    return refused(
      400,
      "Header X-Revdial-Version is missing: this buildlet is too old; want one that speaks revdial 2.",
    );
  }
  if (revdial !== REVDIAL_VERSION) return refused(400, `Revdial version ${quote(revdial)} is unknown; want 2.`);
  const name = get(REGISTRATION_HEADERS.hostname);
  const hostType = get(REGISTRATION_HEADERS.hostType);
  for (const [header, value] of [
    [REGISTRATION_HEADERS.hostname, name],
    [REGISTRATION_HEADERS.hostType, hostType],
  ] as const) {
    if (value === "") return refused(400, `Header ${header} is missing or empty.`);
    if (value.length > MAX_NAME)
      return refused(400, `Header ${header} has ${value.length} characters; want at most ${MAX_NAME}.`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
    if (/[\u0000-\u001f\u007f-\u009f]/.test(value)) return refused(400, `Header ${header} holds control characters.`);
  }
  const version = get(REGISTRATION_HEADERS.version);
  const agent = get(REGISTRATION_HEADERS.agent);
  return {
    kind: "introduced",
    introduction: {
      name,
      hostType,
      key: get(REGISTRATION_HEADERS.key),
      version: /^\d{1,6}$/.test(version) ? Number(version) : 0,
      agent: agent === "" ? undefined : parseAgentInfo(agent),
    },
  };
}

/** Refuses a task's buildlet, which registers where its task was begun. Here machines come to stay. */
function refusedTask(head: RequestHead): Read {
  const missing = TASK_HEADERS.find((header) => fieldValues(head, header).join("") === "");
  if (missing !== undefined) return refused(400, `Header ${missing} is missing or empty.`);
  const [, id] = TASK_HEADERS;
  return refused(
    412,
    `This farm began no task ${quote(fieldValues(head, id).join())}: start the buildlet with a key of this farm and -reverse-type=HOST-TYPE.`,
  );
}

function refused(status: number, reason: string): Read {
  return { kind: "refused", refusal: { status, reason } };
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}
