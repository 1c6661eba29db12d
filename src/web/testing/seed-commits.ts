/** The commits of the seed: one branch of one repository, and another repository that cannot be fetched. */
import { HOSTILE } from "./seed-config.ts";
import type { Story } from "./story.ts";

/** The commits of the seed, oldest first. */
export interface SeededCommits {
  readonly hashes: readonly string[];
  readonly ids: readonly number[];
}

export async function seedCommits({ sql, at, insert }: Story, commits: number): Promise<SeededCommits> {
  await sql.query(
    `insert into repo (name, url, fetched_at) values ('app', 'https://example.org/app.git', $1), ('tools', 'https://example.org/tools.git', $1)`,
    [at(0.2)],
  );
  await sql.query(`update repo set error = 'could not resolve host', error_since = $1 where name = 'tools'`, [at(60)]);
  const hashes: string[] = [];
  const ids: number[] = [];
  for (let n = 0; n < commits; n++) {
    const hash = `${(n * 2654435761 + 7).toString(16).padStart(8, "0").slice(-8)}${"0123456789abcdef".repeat(2)}`;
    const message =
      n === commits - 2 ? `${HOSTILE}\n\nBody with <b>markup</b>.` : `Fix the parser, part ${n}\n\nIt did not parse.`;
    ids.push(
      await insert(
        `insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at) values ('app', $1, $2, $3, 'a@example.org', $4, $5, $4)`,
        [hash, hashes.slice(-1), n % 3 ? "A. Author" : "بناء المزرعة", at((commits - n) * 20), message],
      ),
    );
    hashes.push(hash);
    await sql.query(
      `insert into branch (repo, name, head, moved_at) values ('app', 'main', $1, $2) on conflict (repo, name) do update set head = $1, moved_at = $2`,
      [hash, at((commits - n) * 20)],
    );
    await sql.query(`insert into branch_commit (repo, branch, position, commit_id) values ('app', 'main', $1, $2)`, [
      n + 1,
      ids.at(-1),
    ]);
  }
  return { hashes, ids };
}
