/**
 * What the terminal shows while a farm runs: one line per build, changing in place on a terminal, and one line per
 * change where output goes to a file or a pipe. Colour only on a terminal (and not under NO_COLOR).
 */
import { clearScreenDown, moveCursor } from "node:readline";
import { styleText } from "node:util";
import type { Status } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { durationText } from "../farm/duration-text.ts";
import { type EpochMs, ms } from "../farm/ids.ts";
import { type BuildLine, buildsSince } from "../store/progress.ts";
import type { Sql } from "../store/sql.ts";
import { STATUS, statusOf } from "../ui/status.ts";
import { visible } from "../ui/text.ts";

const REDRAW = ms(250);
const SAFETY_NET = ms(2000);

type Colour = "green" | "red" | "magenta" | "blue" | "yellow" | "gray";

const COLOURS: Readonly<Record<Status, Colour>> = {
  success: "green",
  failure: "red",
  infra_failure: "magenta",
  canceled: "gray",
  running: "blue",
  waiting: "gray",
  skipped: "gray",
  flaky: "yellow",
  known_issue: "gray",
};

export interface TerminalDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly out: NodeJS.WriteStream;
  /** The address of the pages, without a slash at the end. */
  readonly pages: string;
}

/** Shows builds until `signal` aborts. Resolves then, after the last state was drawn. */
export async function showBuilds(deps: TerminalDeps, signal: AbortSignal): Promise<void> {
  const { sql, bus, clock, out, pages } = deps;
  const since = new Date(clock.now());
  const live = out.isTTY === true;
  const settled = new Set<number>();
  const said = new Map<number, string>();
  let drawn = 0;
  let wake = (): void => {};
  bus.subscribe("build:", () => wake(), signal);

  const draw = async () => {
    const builds = (await buildsSince(sql, since)).filter((build) => !settled.has(build.id));
    const erase = () => {
      if (drawn > 0) moveCursor(out, 0, -drawn);
      if (drawn > 0) clearScreenDown(out);
      drawn = 0;
    };
    if (live) erase();
    for (const build of builds) {
      if (build.state === "ended") {
        settled.add(build.id);
        out.write(`${line(build, clock.now(), pages, live)}\n`);
      } else if (!live && said.get(build.id) !== `${build.state} ${build.step}`) {
        said.set(build.id, `${build.state} ${build.step}`);
        out.write(`${line(build, clock.now(), pages, live)}\n`);
      }
    }
    if (!live) return;
    const open = builds.filter((build) => build.state !== "ended").slice(0, Math.max(1, (out.rows ?? 24) - 4));
    for (const build of open) out.write(`${line(build, clock.now(), pages, live, out.columns)}\n`);
    drawn = open.length;
  };

  while (!signal.aborted) {
    await draw();
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const rest = new AbortController();
    const stop = () => rest.abort();
    signal.addEventListener("abort", stop, { once: true });
    await Promise.race([woken, clock.sleep(live ? REDRAW : SAFETY_NET, rest.signal).catch(() => {})]);
    rest.abort();
    signal.removeEventListener("abort", stop);
  }
  await draw();
}

function line(build: BuildLine, now: EpochMs, pages: string, colours: boolean, columns = 0): string {
  const status = statusOf(build.state, build.outcome);
  const { glyph, word } = STATUS[status];
  const subject = visible(build.message.split("\n")[0] ?? "");
  const detail = build.outcome === null ? progress(build) : ending(build);
  const from = build.startedAt ?? build.createdAt;
  const took = durationText((build.endedAt ?? now) - from);
  const facts = [visible(build.builder), build.hash.slice(0, 8), detail, took].filter(Boolean).join("  ");
  const link = `${pages}/b/${build.id}`;
  const room = columns - glyph.length - word.length - facts.length - link.length - 9;
  const title = columns === 0 || room > 12 ? `  “${columns === 0 ? subject : subject.slice(0, room)}”` : "";
  const mark = `${glyph} ${word}`;
  return `${colours ? styleText(COLOURS[status], mark, { stream: process.stdout }) : mark}  ${facts}${title}  ${link}`;
}

function progress(build: BuildLine): string {
  if (build.state === "scheduled") return `for a ${visible(build.hostType)}`;
  return build.step ? `${visible(build.step)} on ${visible(build.machine ?? "?")}` : "";
}

function ending(build: BuildLine): string {
  if (build.outcome === "failure" && build.step) return `in “${visible(build.step)}”`;
  return build.outcome === "success" ? "" : visible(build.reason ?? "");
}
