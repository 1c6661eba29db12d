/** `/gomotes/NAME/files?path=FOLDER`: what lies in a folder of an instance, to look at, to take along and to add to. */
import type { JSX } from "preact";
import { Empty, Name, Section, Table } from "../parts.tsx";
import { grouped, visible } from "../text.ts";
import { Upload } from "../upload.tsx";

export interface FileLine {
  /** Within the folder; a folder's ends in `/`. */
  readonly name: string;
  readonly mode: string;
  readonly size: number | null;
  readonly modified: string | null;
}

export interface GomoteFilesData {
  readonly instance: string;
  /** Below the work folder; "": that itself. */
  readonly path: string;
  readonly entries: readonly FileLine[];
  /** How many there are, of which `entries` are the first. */
  readonly count: number;
}

export function GomoteFilesPage(props: { data: GomoteFilesData }): JSX.Element {
  const { instance, path, entries, count } = props.data;
  const at = `/gomotes/${encodeURIComponent(instance)}`;
  const to = (where: string) => `${at}/files${where === "" ? "" : `?path=${encodeURIComponent(where)}`}`;
  const parts = path.split("/").filter(Boolean);
  return (
    <>
      <h1>
        <a href={at}>
          <Name text={instance} />
        </a>{" "}
        files
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
        ))}
      </nav>
      <div class="operate">
        <a href={`${at}/download?path=${encodeURIComponent(path)}`} download>
          Download this folder (.tar.gz)
        </a>
        <Upload to={(name) => `${at}/files?path=${encodeURIComponent(path === "" ? name : `${path}/${name}`)}`} />
      </div>
      <Section id="entries" title="Entries" aside={grouped(count)}>
        {entries.length === 0 ? (
          <Empty>The folder is empty.</Empty>
        ) : (
          <Table label="Entries" class="entries" head={["Name", "#Bytes", "Changed", "Mode"]}>
            {entries.map((entry) => (
              <tr key={entry.name} data-row>
                <th scope="row">
                  {entry.name.endsWith("/") ? (
                    <a href={to([...parts, entry.name.slice(0, -1)].join("/"))} class="open">
                      <Name text={entry.name} />
                    </a>
                  ) : (
                    <Name text={entry.name} />
                  )}
                </th>
                <td class="right num">{entry.size === null ? "" : grouped(entry.size)}</td>
                <td>{entry.modified === null ? "" : visible(entry.modified.replace("T", " ").replace("Z", " UTC"))}</td>
                <td>
                  <code>{visible(entry.mode)}</code>
                </td>
              </tr>
            ))}
          </Table>
        )}
        {count > entries.length ? (
          <p class="muted">and {grouped(count - entries.length)} more; download the folder to have them all</p>
        ) : null}
      </Section>
    </>
  );
}
