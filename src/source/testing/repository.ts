/** Real git repositories in folders that go away with the test. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A folder that is removed at the end of a test's scope. */
export class TestFolder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<TestFolder> {
    return new TestFolder(await mkdtemp(join(tmpdir(), "source-")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 3 });
  }
}

export class TestRepository {
  readonly path: string;
  #date = 1_700_000_000;

  private constructor(path: string) {
    this.path = path;
  }

  /** An empty repository whose default branch is `main`. */
  static async init(path: string): Promise<TestRepository> {
    await mkdir(path, { recursive: true });
    const repository = new TestRepository(path);
    await repository.git("init", "-q", "-b", "main");
    return repository;
  }

  /** Runs git there with a clean environment; resolves with what it wrote, trimmed. */
  git(...args: string[]): Promise<string> {
    return this.gitWith({}, ...args);
  }

  gitWith(
    more: { readonly env?: Record<string, string>; readonly input?: string | Buffer },
    ...args: string[]
  ): Promise<string> {
    const who = {
      GIT_AUTHOR_NAME: "Ann",
      GIT_AUTHOR_EMAIL: "ann@example.org",
      GIT_COMMITTER_NAME: "Ann",
      GIT_COMMITTER_EMAIL: "ann@example.org",
    };
    const date = `${this.#date} +0000`;
    const env = {
      PATH: process.env.PATH,
      HOME: this.path,
      ...who,
      GIT_AUTHOR_DATE: date,
      GIT_COMMITTER_DATE: date,
      ...more.env,
    };
    return new Promise((resolve, reject) => {
      const child = execFile("git", args, { cwd: this.path, env, maxBuffer: 64 << 20 }, (error, out, err) => {
        if (error) reject(new Error(`git ${args.join(" ")}: ${err}`));
        else resolve(out.trim());
      });
      child.stdin?.on("error", () => {}); // most commands do not read it
      child.stdin?.end(more.input ?? "");
    });
  }

  /** Commits `files` (path -> content) on the branch that is checked out; resolves with the hash. */
  async commit(message: string, files: Record<string, string> = {}): Promise<string> {
    for (const [path, content] of Object.entries(files)) {
      await mkdir(join(this.path, dirname(path)), { recursive: true });
      await writeFile(join(this.path, path), content);
    }
    this.#date++;
    await this.git("add", "-A");
    await this.gitWith({ input: message }, "commit", "-q", "--allow-empty", "--allow-empty-message", "-F", "-");
    return this.git("rev-parse", "HEAD");
  }

  /** `count` commits at once, quickly: messages `PREFIX 1`, `PREFIX 2`, ... on the branch `main`. */
  async commits(count: number, prefix: string): Promise<void> {
    const from = await this.git("rev-parse", "-q", "--verify", "main").catch(() => "");
    let stream = "";
    for (let i = 1; i <= count; i++) {
      const message = `${prefix} ${i}`;
      stream += `commit refs/heads/main\ncommitter Ann <ann@example.org> ${this.#date++} +0000\ndata ${message.length}\n${message}\n`;
      if (i === 1 && from !== "") stream += `from ${from}\n`;
      stream += `M 644 inline n\ndata ${String(i).length}\n${i}\n\n`;
    }
    await this.gitWith({ input: stream }, "fast-import", "--quiet", "--force");
    await this.git("reset", "-q", "--hard", "main");
  }
}
