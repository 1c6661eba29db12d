/**
 * A step's log over HTTP.
 *
 *   /b/ID/STEP/log       the bytes as they were written, as text; `Range: bytes=` resumes; `?follow=1` goes on to its end
 *   /b/ID/STEP/lines     `?from=&count=`: lines as JSON, with numbers from 1
 *   /b/ID/STEP/follow    `?from=`: the same as events, as they are written (log-follow.ts)
 *   /b/ID/STEP/find      `?q=`: which lines contain a text
 *
 * STEP may be `group-N`, a group of the build's tests. All take `?attempt=N`; without it, the last attempt that has the
 * step is meant.
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import type { LogId } from "../farm/ids.ts";
import { logOfStep } from "../store/pages-build.ts";
import { groupFacts } from "../store/pages-tests.ts";
import type { Sql } from "../store/sql.ts";
import { groupOf } from "../ui/group-name.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, json, positive } from "./http.ts";
import { follow, type LinesMessage } from "./log-follow.ts";
import { find, type Lines, linesFrom } from "./log-lines.ts";
import { SharedAnswers } from "./shared-answers.ts";

const LINES_AT_ONCE = 2000;

export function logRoutes(deps: Pick<WebDeps, "sql" | "logs" | "bus" | "clock">, ended: AbortSignal): Hono<Env> {
  const routes = new Hono<Env>();
  // Everybody who has a log open asks the same question whenever the log has grown.
  const logIds = new SharedAnswers<LogId | undefined>(deps.bus, deps.clock, "build:", ended);
  const lines = new SharedAnswers<Lines>(deps.bus, deps.clock, "log:", ended);
  const messages = new SharedAnswers<LinesMessage>(deps.bus, deps.clock, "log:", ended);
  const idOf = async (c: Ctx): Promise<LogId> => {
    const build = positive(c.req.param("id"));
    const step = c.req.param("step") ?? "";
    const attempt = c.req.query("attempt");
    const number = positive(attempt);
    const log =
      build === undefined || (attempt !== undefined && number === undefined)
        ? undefined
        : await logIds.get(`build:${build}`, `${number ?? ""} ${step}`, () =>
            logOf(deps.sql, build, step, number ?? null),
          );
    if (log === undefined)
      throw new FarmError(
        "not-found",
        `Cannot find a log of step ${JSON.stringify(step)} in build ${JSON.stringify(c.req.param("id"))}`,
      );
    return log;
  };
  routes.get("/b/:id/:step/log", async (c) => raw(c, deps, await idOf(c), ended));
  routes.get("/b/:id/:step/lines", async (c) => {
    const from = positive(c.req.query("from")) ?? 1;
    const count = Math.min(LINES_AT_ONCE, positive(c.req.query("count")) ?? 256);
    const id = await idOf(c);
    const make = () => linesFrom(deps.logs, id, from, count);
    return json(c, 200, await lines.get(`log:${id}`, `${from} ${count}`, make));
  });
  routes.get("/b/:id/:step/follow", async (c) => {
    const from = positive(c.req.header("last-event-id")) ?? positive(c.req.query("from")) ?? 1;
    const gone = AbortSignal.any([c.req.raw.signal, ended]);
    const events = follow({ ...deps, messages }, await idOf(c), from, gone);
    return new Response(streamOf(events), {
      headers: {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
      },
    });
  });
  routes.get("/b/:id/:step/find", async (c) => {
    const q = c.req.query("q") ?? "";
    if (q === "" || q.length > 1000)
      throw new FarmError("bad-request", `Cannot search for ${q.length} characters: want 1 to 1000`);
    return json(c, 200, await find(deps.logs, await idOf(c), q, AbortSignal.any([c.req.raw.signal, ended])));
  });
  return routes;
}

/** The log of a step, or of a group of tests, which has an address like a step's. */
async function logOf(sql: Sql, build: number, step: string, attempt: number | null): Promise<LogId | undefined> {
  const group = groupOf(step);
  if (group === undefined) return logOfStep(sql, build, step, attempt);
  return (await groupFacts(sql, build, group, undefined))?.log;
}

/** The range of a header `bytes=A-B`, `bytes=A-` or `bytes=-N`. Undefined: the whole log is sent. */
function rangeOf(header: string | undefined, length: number): { from: number; to: number | undefined } | undefined {
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "") ?? [];
  if (first === "" && last === "") return undefined;
  if (first === "") return { from: Math.max(0, length - Number(last)), to: undefined };
  if (last !== "" && Number(last) < Number(first)) return undefined;
  return { from: Number(first), to: last === "" ? undefined : Number(last) + 1 };
}

async function raw(c: Ctx, deps: Pick<WebDeps, "logs">, id: LogId, ended: AbortSignal): Promise<Response> {
  const { length, ended: over } = await deps.logs.state(id);
  const range = rangeOf(c.req.header("range"), length);
  const follow = c.req.query("follow") === "1" && range?.to === undefined;
  const headers: Record<string, string> = {
    "Content-Type": "text/plain; charset=utf-8",
    // Output of a command must not run as a page of ours.
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Accept-Ranges": "bytes",
    "Cache-Control": over && !follow ? "private, max-age=3600" : "no-cache",
  };
  const from = range?.from ?? 0;
  if (follow) {
    const gone = AbortSignal.any([c.req.raw.signal, ended]);
    if (range) headers["Content-Range"] = `bytes ${from}-${Math.max(from, length - 1)}/*`;
    return new Response(streamOf(deps.logs.tail(id, from, gone)), {
      status: range ? 206 : 200,
      headers: { ...headers, "X-Accel-Buffering": "no" },
    });
  }
  if (range && from >= length)
    return new Response(null, { status: 416, headers: { ...headers, "Content-Range": `bytes */${length}` } });
  const to = Math.min(length, range?.to ?? length);
  headers["Content-Length"] = String(to - from);
  if (range) headers["Content-Range"] = `bytes ${from}-${to - 1}/${length}`;
  if (c.req.method === "HEAD") return new Response(null, { status: range ? 206 : 200, headers });
  return new Response(streamOf(deps.logs.read(id, from, to)), { status: range ? 206 : 200, headers });
}

/** A stream that its reader pulls: a slow reader holds one piece and delays nobody. */
function streamOf(parts: AsyncIterable<Buffer>): ReadableStream<Uint8Array> {
  const iterator = parts[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}
