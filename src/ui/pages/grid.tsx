/** `/p/REPO`: the page around the grid (../grid.ts): the filters, which the address holds, and the table's box. */
import type { JSX } from "preact";
import { repoHref } from "../data.ts";
import { Empty, Name, When } from "../parts.tsx";
import { plural, visible } from "../text.ts";

export interface GridData {
  readonly repo: string;
  readonly branch: string;
  /** The branch that the address asks for but that does not exist. Null: it exists. */
  readonly missing: string | null;
  readonly branches: readonly string[];
  readonly builders: string;
  readonly failing: boolean;
  readonly author: string;
  readonly fetchedAt: number | null;
  readonly error: string | null;
  readonly columns: number;
  readonly commits: number;
  /** The filters as a query, for the browser's requests for rows. */
  readonly query: string;
  readonly html: string;
}

export function GridPage(props: { data: GridData }): JSX.Element {
  const { data } = props;
  return (
    <>
      <h1 class="grid-title">
        <Name text={data.repo} />
        <span class="aside">
          {plural(data.commits, "commit")}, {plural(data.columns, "builder")}
          {data.fetchedAt === null ? null : (
            <>
              , looked <When at={data.fetchedAt} />
            </>
          )}
        </span>
      </h1>
      {data.error === null ? null : <p class="banner">The repository could not be fetched: {visible(data.error)}</p>}
      {data.missing === null || data.branches.length === 0 ? null : (
        <p class="banner">
          There is no branch <Name text={data.missing} />, or none any more. This is <Name text={data.branch} />.
        </p>
      )}
      {data.branches.length === 0 ? null : <Filter data={data} />}
      {data.commits === 0 || data.columns === 0 ? (
        <Empty>{empty(data)}</Empty>
      ) : (
        <section
          class="grid-box"
          id="grid"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
          tabIndex={0}
          aria-label="Grid"
          data-rows={`${repoHref(data.repo)}/rows${data.query}`}
        >
          <table
            class="grid"
            aria-label={`${visible(data.repo)}, commits by builders`}
            dangerouslySetInnerHTML={{ __html: data.html }}
          />
        </section>
      )}
      {data.commits === 0 || data.columns === 0 ? null : (
        <p class="muted legend">
          ✓ success, ✕ failure, <span class="ki">✕</span> known issue, ▲ infra failure, ≈ flaky, ◐ running, ○ waiting, ⊘
          canceled, · skipped
        </p>
      )}
    </>
  );
}

function Filter({ data }: { data: GridData }): JSX.Element {
  return (
    <form class="filter" action={repoHref(data.repo)}>
      <label>
        Branch{" "}
        <select name="branch" aria-label="Branch">
          {data.branches.map((branch) => (
            <option key={branch} value={branch} selected={branch === data.branch}>
              {visible(branch)}
            </option>
          ))}
        </select>
      </label>
      <input
        name="builders"
        value={data.builders}
        placeholder="builders, such as linux-*"
        aria-label="Builders, such as linux-*"
      />
      <input name="author" value={data.author} placeholder="author" aria-label="Author" />
      <label>
        <input type="checkbox" name="failing" value="1" checked={data.failing} /> only failing
      </label>
      <button type="submit">Show</button>
    </form>
  );
}

function empty(data: GridData): string {
  if (data.failing || data.builders !== "" || data.author !== "") return "Nothing matches this filter.";
  if (data.commits === 0)
    return data.error === null ? "No commit has been found on this branch yet." : "No commit is known yet.";
  return "No builder is configured for this repository.";
}
