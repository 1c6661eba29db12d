/** `/gomotes/NAME/files?path=FOLDER`: a folder of an instance. Its files can be read, downloaded, added and deleted. */
import type { JSX } from "preact";
import { Empty, Name, Pages, Table, When } from "../parts.tsx";
import { grouped, plural, visible } from "../text.ts";
import { Upload } from "../upload.tsx";

export interface FileLine {
  /** The name within the folder. A folder's name ends in `/`. */
  readonly name: string;
  readonly mode: string;
  readonly size: number | null;
  readonly modified: number | null;
}

export interface GomoteFilesData {
  readonly instance: string;
  /** The folder, below the work folder; "" is the work folder itself. */
  readonly path: string;
  readonly entries: readonly FileLine[];
  /** How many entries match the filter; `entries` are those of this page. `total` is how many there are. */
  readonly count: number;
  readonly total: number;
  readonly filter: string;
  readonly page: number;
  readonly pages: number;
  /** Whether files can be downloaded one by one. */
  readonly sendsFiles: boolean;
}

/** A folder with at least this many entries has a filter. */
const MANY = 30;

export function GomoteFilesPage(props: { data: GomoteFilesData }): JSX.Element {
  const { instance, path, entries, count, total, filter, page, pages } = props.data;
  const at = `/gomotes/${encodeURIComponent(instance)}`;
  const to = (where: string) => `${at}/files${where === "" ? "" : `?path=${encodeURIComponent(where)}`}`;
  const parts = path.split("/").filter(Boolean);
  const other = (number: number) =>
    `${at}/files?${new URLSearchParams({ path, ...(filter === "" ? {} : { q: filter }), page: String(number) })}`;
  return (
    <>
      <h1>
        Files of{" "}
        <a href={at}>
          <Name text={instance} />
        </a>
      </h1>
      <nav class="crumbs" aria-label="Folders">
        <a href={to("")}>work folder</a>
        {parts.map((part, n) => (
          <span key={`${n} ${part}`}>
            {" / "}
            <a href={to(parts.slice(0, n + 1).join("/"))}>
              <Name text={part} />
            </a>
          </span>
        ))}{" "}
        <span class="muted num">{total === 0 ? "" : plural(total, "entry", "entries")}</span>
      </nav>
      <div class="operate">
        <a href={`${at}/download?path=${encodeURIComponent(path)}`} download>
          Download this folder (.tar.gz)
        </a>
        <Upload to={(name) => `${at}/files?path=${encodeURIComponent(path === "" ? name : `${path}/${name}`)}`} />
        <form method="post" action={to(path)} encType="multipart/form-data" class="upload without-script">
          <label>
            Upload a file <input type="file" name="file" required />
          </label>
          <button type="submit">Upload</button>
        </form>
      </div>
      {total < MANY ? null : (
        <form action={`${at}/files`} class="filter">
          <input type="hidden" name="path" value={path} />
          <input name="q" value={filter} placeholder="part of a name" aria-label="Filter by part of a name" />
          <button type="submit">Filter</button>
          {filter === "" ? null : <span class="muted num">{`${grouped(count)} of ${grouped(total)}`}</span>}
        </form>
      )}
      {entries.length === 0 ? (
        <Empty>
          {filter === "" ? "The folder is empty: upload something, or write into it in a shell." : "No name has that."}
        </Empty>
      ) : (
        <form method="post" action={`${at}/files/delete`}>
          <input type="hidden" name="path" value={path} />
          <Entries data={props.data} />
          <details class="sure">
            <summary>Delete what is ticked…</summary>
            <p>It is gone for good, a folder with all that is in it.</p>
            <button type="submit" class="danger">
              Delete it
            </button>
          </details>
        </form>
      )}
      <Pages of="entries" page={page} pages={pages} href={other} />
    </>
  );
}

function Entries(props: { data: GomoteFilesData }): JSX.Element {
  return (
    <Table label="Entries" class="config brief entries" head={["Name", "#Bytes", "#Changed", "Mode"]}>
      {props.data.entries.map((entry) => (
        <tr key={entry.name} data-row>
          <th scope="row">
            {isText(entry.name) ? (
              <input type="checkbox" name="name" value={entry.name} aria-label={`Tick ${visible(entry.name)}`} />
            ) : (
              <span class="no-tick" />
            )}{" "}
            <EntryName entry={entry} data={props.data} />
          </th>
          <td data-label="Bytes" class="right num">
            {entry.size === null ? "" : grouped(entry.size)}
          </td>
          <td data-label="Changed" class="right when">
            {entry.modified === null ? "" : <When at={entry.modified} />}
          </td>
          <td data-label="Mode">
            <code>{visible(entry.mode)}</code>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function EntryName(props: { entry: FileLine; data: GomoteFilesData }): JSX.Element {
  const { name, mode, size } = props.entry;
  const { instance, path, sendsFiles } = props.data;
  const below = path === "" ? name : `${path}/${name}`;
  const at = `/gomotes/${encodeURIComponent(instance)}`;
  if (!isText(name))
    return <span title="Its name is no text, so no page can speak of it: use a shell">{visible(name)}</span>;
  if (name.endsWith("/"))
    return (
      <a href={`${at}/files?path=${encodeURIComponent(below.slice(0, -1))}`} class="open">
        <Name text={name} />
      </a>
    );
  if (size !== null && sendsFiles)
    return (
      <a href={`${at}/file?path=${encodeURIComponent(below)}`} class="open" download>
        <Name text={name} />
      </a>
    );
  return (
    <>
      <Name text={name} /> {mode.startsWith("L") ? <span class="muted">link</span> : null}
    </>
  );
}

/**
 * Whether a form can send the name. The machine puts U+FFFD where the bytes of a name are no text, and a form changes
 * line feeds.
 */
function isText(name: string): boolean {
  return !/[\u{fffd}\r\n]/u.test(name);
}
