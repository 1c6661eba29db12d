/** What `-once` follows: the newest commits of watched branches, and the results of their builds. */
import { plan } from "../builds/plan.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { LogId } from "../farm/ids.ts";
import type { Logs } from "../logs/logs.ts";
import type { RepoStanding } from "../source/repo-watch.ts";
import type { Source } from "../source/source.ts";
import { recipeDigest } from "../store/builds.ts";
import { type BuildLine, newestBuilds, type Wanted } from "../store/progress.ts";
import type { Sql } from "../store/sql.ts";

export interface NewestDeps {
  readonly sql: Sql;
  readonly logs: Logs;
  readonly source: Source;
  readonly config: () => FarmConfig;
}

export class Newest {
  readonly #deps: NewestDeps;

  constructor(deps: NewestDeps) {
    this.#deps = deps;
  }

  /** What this process has seen of each repository that is configured now. */
  get repos(): readonly RepoStanding[] {
    return this.#deps.source.standings();
  }

  /**
   * The builds that the configuration wants for the newest commits of watched branches, without pairs. Undefined: not
   * planned yet.
   */
  async builds(): Promise<readonly (BuildLine | undefined)[]> {
    const { sql, config } = this.#deps;
    const wanted = this.repos.flatMap(({ name: repo, heads }) =>
      [...heads].flatMap(([branch, hash]) =>
        plan(config(), repo, branch).map((recipe) => {
          return { repo, hash, builder: recipe.builder, recipe: recipeDigest(recipe).digest };
        }),
      ),
    );
    const found = await newestBuilds(sql, wanted);
    const same = (build: BuildLine, one: Wanted) =>
      build.repo === one.repo && build.hash === one.hash && build.builder === one.builder;
    return wanted.map((one) => found.find((build) => same(build, one)));
  }

  /** The last bytes of a log. */
  async tailOf(log: LogId, bytes: number): Promise<Buffer> {
    const { logs } = this.#deps;
    const { length } = await logs.state(log);
    const chunks: Buffer[] = [];
    for await (const chunk of logs.read(log, Math.max(0, length - bytes))) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
}
