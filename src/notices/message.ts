/**
 * The messages that people read: short, plain text, for a phone at night. What happened, since when, what to do, and
 * where to look.
 *
 * Machines and people choose their names freely. So names pass through `clean`, so that none can end a line or a
 * header, or turn the text around it. There is no markup, so nothing needs escaping.
 */
import type { EpochMs, Ms } from "../farm/ids.ts";
import type { Trouble, TroubleKind } from "./trouble.ts";

export interface Item {
  readonly kind: TroubleKind | "test";
  readonly subject: string;
  readonly hostType: string | null;
  readonly name: string;
  /** Since when, in milliseconds since 1970. */
  readonly since: number;
  readonly text: string;
  readonly link: string | null;
}

export interface Message {
  readonly event: "trouble" | "over" | "test";
  /** The title, in one line. */
  readonly title: string;
  /** The whole text. */
  readonly text: string;
  readonly items: readonly Item[];
}

export interface Place {
  readonly farm: string;
  /** The farm's address, without a slash at the end; null: messages have no links. */
  readonly url: string | null;
}

const LISTED = 30;
const LONGEST = 200;

export function troubleMessage(troubles: readonly Trouble[], place: Place): Message {
  const items = troubles.map((trouble) => itemOf(trouble, place, said(trouble)));
  return message("trouble", title(troubles, place, false), items, troubles, place);
}

/** The message that troubles are over. `at`: when each was well again. */
export function overMessage(
  over: readonly { readonly trouble: Trouble; readonly at: EpochMs }[],
  place: Place,
): Message {
  const troubles = over.map(({ trouble }) => trouble);
  const items = over.map(({ trouble, at }) =>
    itemOf(trouble, place, ended(trouble, spanText((at - trouble.since) as Ms))),
  );
  return message("over", title(troubles, place, true), items, [], place);
}

export function testMessage(place: Place, now: EpochMs): Message {
  const text = `This is a test message of the farm ${clean(place.farm)}. Nothing is wrong.`;
  const name = clean(place.farm);
  const items = [{ kind: "test", subject: "farm:", hostType: null, name, since: now, text, link: place.url }] as const;
  return message("test", `[${name}] test message`, items, [], place);
}

function message(
  event: Message["event"],
  titled: string,
  items: readonly Item[],
  troubles: readonly Trouble[],
  place: Place,
): Message {
  const lines = items.slice(0, LISTED).map(({ text, link }) => (link === null ? text : `${text}\n${link}`));
  if (items.length > LISTED) {
    lines.push(`and ${items.length - LISTED} more${place.url === null ? "" : `: ${place.url}/status`}`);
  }
  const advice = [...new Set(troubles.map(({ kind }) => ADVICE[kind]))];
  return { event, title: titled, text: `${[...lines, ...advice].join("\n\n")}\n`, items };
}

const ADVICE: Readonly<Record<TroubleKind, string>> = {
  missing:
    "Does the machine have power and network, and does its buildlet run? It is taken back by itself once it dials in. If it is away on " +
    "purpose, ask the operator to drain it.",
  short: "Start them, or lower `expect` at the host type.",
  "set-aside":
    "Its page says what failed on it. It gets no work until the farm has tried it and found it well, which it does by itself, less and less " +
    "often; whoever is logged in can give it work again there.",
  repo: "Builds of what is known go on; new commits are not seen until it can be fetched again.",
  key: "Make a new key with genbuilderkey and give it to the machine before then; afterwards it is refused.",
  config: "Mend the file; the old configuration stays in force until then.",
};

function title(troubles: readonly Trouble[], place: Place, over: boolean): string {
  const farm = `[${clean(place.farm)}]`;
  const [only] = troubles;
  if (only && troubles.length === 1) return `${farm} ${heading(only, over)}`;
  const kinds = new Set(troubles.map(({ kind }) => kind));
  const machines = [...kinds].every((kind) => kind === "missing" || kind === "set-aside");
  const what = machines ? `${troubles.length} machines` : `${troubles.length} things`;
  if (over) return `${farm} ${what} ${machines ? "are back" : "are well again"}`;
  return `${farm} ${what} ${kinds.has("missing") && kinds.size === 1 ? "are missing" : "need a look"}`;
}

function heading({ kind, about }: Trouble, over: boolean): string {
  const name = clean(about.name);
  switch (kind) {
    case "missing":
      return over ? `${name} is back` : `${name} is missing`;
    case "short":
      return over ? `${name} is complete` : `${name} has too few machines`;
    case "set-aside":
      return over ? `${name} is well again` : `${name} is set aside`;
    case "repo":
      return over ? `${name} can be fetched again` : `${name} cannot be fetched`;
    case "key":
      return `the key of ${name} expires soon`;
    case "config":
      return over ? "the configuration is in force" : "the changed configuration cannot be used";
  }
}

function said(trouble: Trouble): string {
  const { kind, since, about } = trouble;
  const [name, detail] = [named(about), clean(about.detail)];
  const because = detail === "" ? "" : `: ${detail}`;
  switch (kind) {
    case "missing":
      return `${name} has been missing since ${utc(since)}${because}.`;
    case "short":
      return `${name}${because}, since ${utc(since)}.`;
    case "set-aside":
      return `${name} was set aside at ${utc(since)}${because}.`;
    case "repo":
      return `${name} cannot be fetched since ${utc(since)}${because}.`;
    case "key":
      return `The key of ${name} ${detail}.`;
    case "config":
      return `The configuration on ${name} cannot be used since ${utc(since)}${because}`;
  }
}

function ended({ kind, about }: Trouble, span: string): string {
  const name = named(about);
  switch (kind) {
    case "missing":
      return `${name} is back after ${span}.`;
    case "short":
      return `${name} has as many machines as it expects again, after ${span}.`;
    case "set-aside":
      return `${name} is well again and gets work, after ${span}.`;
    case "repo":
      return `${name} can be fetched again, after ${span}.`;
    case "key":
      return `The key of ${name} is not about to expire any more.`;
    case "config":
      return `The configuration on ${name} is in force again, after ${span}.`;
  }
}

function named({ hostType, name }: Trouble["about"]): string {
  return hostType === null || hostType === name ? clean(name) : `${clean(name)} (${clean(hostType)})`;
}

function itemOf(trouble: Trouble, { url }: Place, text: string): Item {
  const { kind, subject, since, about } = trouble;
  const { hostType, name } = about;
  return { kind, subject, hostType, name, since, text, link: url === null ? null : `${url}${pathOf(trouble)}` };
}

function pathOf({ kind, about }: Trouble): string {
  const name = encodeURIComponent(about.name);
  switch (kind) {
    case "missing":
    case "set-aside":
    case "key":
      return `/machines/${name}?type=${encodeURIComponent(about.hostType ?? "")}`;
    case "short":
      return `/builders#${name}`;
    case "repo":
      return `/p/${name}`;
    case "config":
      return "/status";
  }
}

/** The text on one line, without anything that steers a terminal, a mail reader or the text around it. */
export function clean(text: string): string {
  const plain = text
    .toWellFormed()
    .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
    .replace(/[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu, "")
    .trim();
  return plain.length > LONGEST ? `${plain.slice(0, LONGEST - 1).toWellFormed()}…` : plain;
}

export function utc(at: number): string {
  return new Date(at)
    .toISOString()
    .replace("T", " ")
    .replace(/:\d\d\.\d+Z$/, " UTC");
}

/** A span as people say it: `40 s`, `12 min`, `3 h`, `2 days`. */
export function spanText(span: Ms): string {
  if (span < 60_000) return `${Math.max(1, Math.round(span / 1000))} s`;
  if (span < 3_600_000) return `${Math.round(span / 60_000)} min`;
  if (span < 48 * 3_600_000) return `${Math.round(span / 3_600_000)} h`;
  return `${Math.round(span / 86_400_000)} days`;
}
