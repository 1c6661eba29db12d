/**
 * What all pages have in common: the frame, the two forms (HTML and JSON), and the answer when a page cannot be shown.
 */
import { getCookie } from "hono/cookie";
import { CODES, FarmError } from "../farm/errors.ts";
import { seconds } from "../farm/ids.ts";
import { Logins } from "../people/logins.ts";
import type { Frame } from "../ui/data.ts";
import type { Page } from "../ui/page.tsx";
import { visible } from "../ui/text.ts";
import { Attempts, WRONG_SECRETS } from "./attempts.ts";
import type { WebDeps } from "./deps.ts";
import { documentOf } from "./document.tsx";
import { type Ctx, html, json, text, wantsJson } from "./http.ts";
import { Identities, isOperator, nameOf } from "./identity.ts";
import { Operator } from "./operator.ts";
import { leadsToGomotes } from "./pages/gomotes.ts";
import { suggestions } from "./pages/search.ts";
import { checkOf, worst } from "./shapes.ts";

/** How long a page waits for the database before it says that the database is away. */
const PATIENCE = seconds(5);

export class Pages {
  readonly #deps: WebDeps;
  readonly operator: Operator;
  readonly identities: Identities;
  /** Counts wrong secrets and codes, and limits how often one may try. */
  readonly wrong: Attempts;

  constructor(deps: WebDeps) {
    const { sql, bus, clock, people } = deps;
    this.#deps = deps;
    this.operator = new Operator(deps.operatorToken, clock);
    this.wrong = new Attempts(clock, WRONG_SECRETS);
    const logins = new Logins({ sql, bus, clock });
    this.identities = new Identities({ operator: this.operator, people, logins, wrong: this.wrong, clock });
  }

  /**
   * The result of `work`, which reads the database. Throws FarmError `unavailable` when that takes longer than
   * PATIENCE.
   */
  async load<T>(work: Promise<T>): Promise<T> {
    const done = new AbortController();
    const limit = this.#deps.clock.sleep(PATIENCE, done.signal).then(() => {
      throw new FarmError("unavailable", "Cannot read the database: it does not answer");
    });
    limit.catch(() => {}); // aborted below, when the work was faster
    work.catch(() => {}); // it may fail after nobody waits any more
    try {
      return await Promise.race([work, limit]);
    } finally {
      done.abort(new FarmError("canceled", "done"));
    }
  }

  async answer(
    c: Ctx,
    status: number,
    title: string,
    page: Page,
    topics: readonly string[],
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const envelope = { page, frame: await this.#frame(c, title), topics, askedAt: c.get("askedAt") };
    if (wantsJson(c)) return json(c, status, envelope, headers);
    return html(c, status, documentOf(envelope, this.#deps.assets), headers);
  }

  async notFound(c: Ctx, what?: string): Promise<Response> {
    const path = decoded(new URL(c.req.url).pathname);
    const line = what ?? `There is nothing at ${path}.`;
    if (c.req.method !== "GET" && c.req.method !== "HEAD") return text(c, 404, `${line}\n`);
    const hits = await this.load(suggestions(this.#deps.sql, this.#deps.config(), path)).catch(() => []);
    return this.answer(
      c,
      404,
      "Not found",
      {
        name: "message",
        data: { title: "Not found", lines: [line, hits.length > 0 ? "You may have meant:" : ""].filter(Boolean), hits },
      },
      [],
    );
  }

  async failed(c: Ctx, thrown: unknown): Promise<Response> {
    const error = FarmError.from(thrown);
    if (error.code === "not-found" && (c.req.method === "GET" || c.req.method === "HEAD") && !wantsJson(c))
      return this.notFound(c, error.message);
    if (error.code === "internal")
      this.#deps.log.error(
        { error: thrown instanceof Error ? thrown.stack : String(thrown), path: c.req.path },
        "A request failed",
      );
    const said =
      error.code === "internal" ? "Something went wrong here; the coordinator's log says more." : error.message;
    const status = CODES[error.code].http;
    if (wantsJson(c)) return json(c, status, { error: said });
    const reads = c.req.method === "GET" || c.req.method === "HEAD";
    if (error.code === "unauthenticated" && reads && c.req.header("authorization") === undefined) {
      const { pathname, search } = new URL(c.req.url);
      return c.redirect(`/login?back=${encodeURIComponent(pathname + search)}`, 303);
    }
    const away = error.code === "unavailable";
    const lines = away
      ? [
          said,
          "What goes on meanwhile: machines stay connected, commands go on running, and their output is kept until it can be stored.",
          "This page can be loaded again in a moment; nothing is lost.",
        ]
      : [said];
    const title = away
      ? "The database is away"
      : error.code === "internal"
        ? "This page failed"
        : error.code === "forbidden" && reads
          ? "This is not shown to you"
          : "This cannot be done";
    return this.answer(c, status, title, { name: "message", data: { title, lines, hits: [] } }, []);
  }

  async #frame(c: Ctx, title: string): Promise<Frame> {
    const { who } = await this.identities.of(c);
    const { farmName, version, startedAt, clock, config, banners, checkers } = this.#deps;
    const url = new URL(c.req.url);
    url.searchParams.delete("format");
    const theme = getCookie(c, "theme");
    return {
      farm: farmName,
      version,
      startedAt,
      now: clock.now(),
      path: url.pathname + url.search,
      title: title === "" ? visible(farmName) : `${visible(title)} · ${visible(farmName)}`,
      repos: config().repos.map((repo) => repo.name),
      banners: banners(),
      health: worst(checkers().map((check) => checkOf(check).level)),
      operator: isOperator(who),
      who: who.kind === "nobody" ? null : nameOf(who),
      gomotes: leadsToGomotes(config(), who),
      theme: theme === "light" || theme === "dark" ? theme : "system",
    };
  }
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
