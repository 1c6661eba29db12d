/** A Source on a real database and a real folder that looks when a test says so, and tells what it recorded and planned. */
import { join } from "node:path";
import { Blobs } from "../../blobs/blobs.ts";
import { checkFarm } from "../../config/check.ts";
import type { RepoInput } from "../../config/input.ts";
import type { Bus } from "../../farm/deps.ts";
import { seconds } from "../../farm/ids.ts";
import type { Sql } from "../../store/sql.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet } from "../../store/testing/database.ts";
import { MIRROR_LIMITS } from "../mirror.ts";
import type { Planned } from "../repo-watch.ts";
import { Source, type SourceOptions } from "../source.ts";
import { TestFolder } from "./repository.ts";

export class Bench implements AsyncDisposable {
  readonly folder: string;
  readonly sql: Sql;
  readonly topics: string[] = [];
  readonly #planned: string[] = [];
  readonly #stack = new AsyncDisposableStack();
  #looked = Promise.withResolvers<void>();
  #source: Source | undefined;
  /** Stands in for the planning of builds. */
  planned: Planned = async (sql, { branch, commits }) => {
    const rows = await sql.query<{ message: string }>(
      "select message from unnest($1::bigint[]) with ordinality as x (id, n) join commit using (id) order by n",
      [commits.map((c) => c.id)],
    );
    this.#planned.push(`${branch}: ${rows.map((r) => r.message).join(", ")}`);
    return [`planned:${branch}`];
  };

  private constructor(folder: TestFolder, sql: Sql) {
    this.folder = this.#stack.use(folder).path;
    this.sql = sql;
  }

  static async make(): Promise<Bench> {
    const database = await freshDatabase();
    const bench = new Bench(await TestFolder.make(), database.sql);
    bench.#stack.use(database);
    return bench;
  }

  get source(): Source {
    if (!this.#source) throw new Error("The source is not open");
    return this.#source;
  }

  /** Opens the source, in place of one that was open, watches `repos` and waits for the first look. */
  async open(repos: readonly RepoInput[], options: Partial<SourceOptions> = {}): Promise<void> {
    await this.close();
    const bus: Bus = { publish: (topic) => this.#heard(topic), subscribe: () => {} };
    this.#source = await Source.open({
      sql: this.sql,
      bus,
      log: quiet,
      clock: systemClock,
      random: () => 0,
      blobs: await Blobs.open(join(this.folder, "blobs"), systemClock.now()),
      data: this.folder,
      base: this.folder,
      environment: { PATH: process.env.PATH, HOME: this.folder, GIT_DIR: "/nonexistent" },
      limits: { ...MIRROR_LIMITS, list: seconds(20), fetch: seconds(20) },
      ...options,
    });
    await this.configure(repos);
  }

  async configure(repos: readonly RepoInput[]): Promise<void> {
    const looked = this.#nextLook();
    const farm = checkFarm({ repos: repos.map((repo) => ({ poll: "24h", ...repo })), hosts: [], builders: [] });
    await this.source.configure(farm.repos, (sql, found) => this.planned(sql, found));
    if (repos.length > 0) await looked;
  }

  /** Makes the source look at `app` and waits until it has. */
  async look(): Promise<void> {
    const looked = this.#nextLook();
    this.source.poke("app");
    await looked;
  }

  async close(): Promise<void> {
    await this.#source?.[Symbol.asyncDispose]();
  }

  /** What was planned since the last call: `BRANCH: NEWEST, ...`. */
  takePlanned(): string[] {
    return this.#planned.splice(0);
  }

  /** Messages of each branch, newest first. */
  async history(): Promise<Record<string, string[]>> {
    const rows = await this.sql.query<{ branch: string; messages: string[] }>(
      `select branch, array_agg(message order by position desc) as messages
       from branch_commit join commit on id = commit_id group by branch order by branch`,
    );
    return Object.fromEntries(rows.map((row) => [row.branch, row.messages]));
  }

  /** What is wrong with `app`. */
  async error(): Promise<string | null> {
    const [row] = await this.sql.query<{ error: string | null }>("select error from repo where name = 'app'");
    return row?.error ?? null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await this.#stack.disposeAsync();
  }

  #nextLook(): Promise<void> {
    this.#looked = Promise.withResolvers();
    return this.#looked.promise;
  }

  #heard(topic: string): void {
    this.topics.push(topic);
    if (topic.startsWith("repo:")) this.#looked.resolve();
  }
}
