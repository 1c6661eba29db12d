/**
 * Data of `/search`, and suggestions of a 404: builds by number, commits by hash or words, branches, builders,
 * machines.
 */
import type { FarmConfig } from "../../config/effective.ts";
import { buildLines } from "../../store/pages-lines.ts";
import { branchesLike, commitsByHash, commitsByText, machinesLike } from "../../store/pages-search.ts";
import type { Sql } from "../../store/sql.ts";
import { type BuildLine, commitHref, machineHref, repoHref } from "../../ui/data.ts";
import type { Hit } from "../../ui/pages/messages.tsx";
import { subject } from "../../ui/text.ts";
import { positive } from "../http.ts";
import { linesOf } from "../lines.ts";
import { like } from "./machines.ts";

const EACH = 20;
/** A name is searched by its beginning only if it has at least this many characters. */
const LONG_ENOUGH = 4;

export async function search(
  sql: Sql,
  config: FarmConfig,
  q: string,
): Promise<{ q: string; hits: Hit[]; builds: BuildLine[] }> {
  const words = q.trim().slice(0, 200);
  if (words === "") return { q, hits: [], builds: [] };
  const number = positive(words.replace(/^#/, ""));
  const isHash = /^[0-9a-f]{4,64}$/i.test(words);
  const [builds, byHash, byText, branches, machines] = await Promise.all([
    number === undefined ? [] : buildLines(sql, [number]),
    isHash ? commitsByHash(sql, words.toLowerCase(), EACH) : [],
    words.length < 2 ? [] : commitsByText(sql, like(words), EACH),
    branchesLike(sql, like(words), EACH),
    machinesLike(sql, like(words), EACH),
  ]);
  const low = words.toLowerCase();
  const commits = [...byHash, ...byText.filter((c) => !byHash.some((b) => b.hash === c.hash))];
  const hits: Hit[] = [
    ...config.repos
      .filter((repo) => repo.name.toLowerCase().includes(low))
      .map((repo) => ({ kind: "repository", href: repoHref(repo.name), text: repo.name, more: "" })),
    ...commits.map((c) => ({
      kind: "commit",
      href: commitHref(c.repo, c.hash),
      text: `${c.hash.slice(0, 8)} ${subject(c.message)}`,
      more: `${c.author}, ${c.repo}`,
    })),
    ...branches.map((b) => ({
      kind: "branch",
      href: `${repoHref(b.repo)}?branch=${encodeURIComponent(b.name)}`,
      text: b.name,
      more: b.repo,
    })),
    ...config.builders
      .filter((builder) => builder.name.toLowerCase().includes(low))
      .slice(0, EACH)
      .map((builder) => ({
        kind: "builder",
        href: `/builders#${encodeURIComponent(builder.name)}`,
        text: builder.name,
        more: builder.host,
      })),
    ...machines.map((m) => ({ kind: "machine", href: machineHref(m), text: m.name, more: m.hostType })),
  ];
  return { q, hits, builds: await linesOf(sql, builds, config) };
}

/** The pages that somebody who asked for `path` may have meant. */
export async function suggestions(sql: Sql, config: FarmConfig, path: string): Promise<Hit[]> {
  const parts = path.split("/").filter(Boolean);
  const last = parts.at(-1) ?? "";
  const { hits, builds } = await search(sql, config, last);
  const alike = hits.length > 0 || last.length < LONG_ENOUGH ? [] : await beginningAlike(sql, config, last);
  const pages: Hit[] = [
    ...gridsFor(config, parts).map((repo): Hit => ({ kind: "grid", href: repoHref(repo), text: repo, more: "" })),
    { kind: "page", href: "/", text: "The farm now", more: "" },
    { kind: "page", href: "/builders", text: "Builders", more: "" },
    { kind: "page", href: "/machines", text: "Machines", more: "" },
  ];
  return [
    ...builds.map((b) => ({ kind: "build", href: `/b/${b.id}`, text: `#${b.id} ${b.builder}`, more: b.subject })),
    ...[...hits, ...alike].slice(0, 8),
    ...pages,
  ];
}

/** Names that share more than half of the beginning of `name`. Nothing has that name itself. */
async function beginningAlike(sql: Sql, config: FarmConfig, name: string): Promise<Hit[]> {
  const { hits } = await search(sql, config, name.slice(0, Math.ceil((name.length * 2) / 3)));
  return hits.filter(({ kind }) => kind !== "commit");
}

/**
 * For addresses below `/p`: the grid of the repository that the address names, or the grids of all when it names none.
 */
function gridsFor(config: FarmConfig, [room, named]: readonly string[]): string[] {
  if (room !== "p") return [];
  const repos = config.repos.map(({ name }) => name);
  return named !== undefined && repos.includes(named) ? [named] : repos.slice(0, 8);
}
